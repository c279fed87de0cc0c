// Exceptions of libgloo, and one of ours beside them.
#pragma once

#include <gloo/common/error.h>

#include <string>

namespace c10d::gloo_shim {

/// A message has another length than the receive that was posted for it.
struct SizesDiffer : gloo::IoException {
  using gloo::IoException::IoException;
};

/// The text of an exception without the "[file:line] " that Gloo puts before it.
inline std::string without_location(const std::string& what) {
  const auto end = what.find("] ");
  return !what.empty() && what[0] == '[' && end != std::string::npos ? what.substr(end + 2) : what;
}

}  // namespace c10d::gloo_shim
