#include "ops/system_error.h"

#include <cerrno>
#include <cstring>

namespace c10d {

int32_t system_error_in(const std::string& text) {
  // The text of EMFILE is a prefix of that of ENFILE.
  for (const int error : {ENFILE, EMFILE, ENOMEM, ENOSPC}) {
    if (text.find(std::strerror(error)) != std::string::npos) return error;
  }
  return 0;
}

}  // namespace c10d
