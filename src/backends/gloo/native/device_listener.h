// Since 2023 a Gloo device listens on a socket of its own, which this shim has no use for: it makes the connections.
#pragma once

#include <string>

#include "gloo_version.h"
#include "ops/failure.h"

namespace c10d::gloo_shim {

/// Closes the socket that `device` listens on, if it does. Gloo would keep each connection that strangers make to it for
/// good, and end the process when accept() fails. Throws Failure.
void close_listener(tcp::Device& device);

/// Why Gloo could make no device that listens on `ip`; it only says that none of its attempts to bind went well.
Failure cannot_listen(const std::string& ip);

}  // namespace c10d::gloo_shim
