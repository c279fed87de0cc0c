// What UCC and UCX report by their log alone.
#pragma once

#include <string>

namespace c10d::ucc_shim {

/// Listens to the log of UCX, which is that of UCC as well, for the life of the process.
void listen_to_log();

/// Whether an error was logged on this thread since the last call of take_logged_error().
bool logged_error();
/// The first error that was logged on this thread since the last call; empty if there was none. UCX_LOG_LEVEL=fatal keeps
/// errors from being logged.
std::string take_logged_error();

}  // namespace c10d::ucc_shim
