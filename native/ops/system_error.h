// The errno of a failed system call, where a library reports it only in its message.
#pragma once

#include <cstdint>
#include <string>

namespace c10d {

/// The errno whose strerror() text is in a library's message, among those that mean that a resource is exhausted; 0 if
/// none is.
int32_t system_error_in(const std::string& text);

}  // namespace c10d
