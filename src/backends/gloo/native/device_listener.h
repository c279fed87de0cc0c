// Since 2023 a Gloo device listens on a socket of its own. This shim does not need it, since it makes the connections.
#pragma once

#include <string>

#include "context/gloo_version.h"
#include "ops/failure.h"

namespace c10d::gloo_shim {

/// Closes the socket on which `device` listens, if it does. Gloo would keep every connection of a stranger open
/// forever, and end the process when accept() fails. Throws Failure.
void close_listener(tcp::Device& device);

/// Why Gloo could not make a device that listens on `ip`. Gloo itself only says that it could not bind.
Failure cannot_listen(const std::string& ip);

}  // namespace c10d::gloo_shim
