// Since 2023 a Gloo device listens on a socket of its own, which this shim has no use for: it makes the connections.
#pragma once

#include "gloo_version.h"

namespace c10d::gloo_shim {

/// Closes the socket that `device` listens on, if it does. Gloo would keep each connection that strangers make to it for
/// good, and end the process when accept() fails. Throws Failure.
void close_listener(tcp::Device& device);

}  // namespace c10d::gloo_shim
