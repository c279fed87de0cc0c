// The texts of libgloo's exceptions.
#pragma once

#include <string>

namespace c10d::gloo_shim {

/// The text of an exception without the "[file:line] " that Gloo puts before it.
inline std::string without_location(const std::string& what) {
  const auto end = what.find("] ");
  return !what.empty() && what[0] == '[' && end != std::string::npos ? what.substr(end + 2) : what;
}

}  // namespace c10d::gloo_shim
