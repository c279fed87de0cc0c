// What the operating system has refused, where a library reports that only by its words.
#pragma once

#include <cstdint>
#include <string>

namespace c10d {

/// The errno whose text, as strerror() has it, is in what a library says: of those that mean that something has run out. 0 if
/// there is none.
int32_t system_error_in(const std::string& text);

}  // namespace c10d
