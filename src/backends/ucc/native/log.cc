#include "log.h"

#include <dlfcn.h>

#include <cstdarg>
#include <cstdio>

namespace c10d::ucc_shim {

namespace {

/// As ucs/debug/log.h has them, which UCX installs but not every distribution packages.
enum Level { kFatal = 0, kError = 1 };
enum Passed { kStop = 0, kContinue = 1 };
using Handler = int (*)(const char* file, unsigned line, const char* function, int level, const void* component,
                        const char* format, va_list arguments);

/// Without a destructor, since UCX logs from threads that are about to end.
thread_local char first_error[256];

int listen(const char*, unsigned, const char*, int level, const void*, const char* format, va_list arguments) {
  if (level <= kError && first_error[0] == '\0') {
    va_list copied;
    va_copy(copied, arguments);
    std::vsnprintf(first_error, sizeof first_error, format, copied);
    va_end(copied);
  }
  return kContinue;
}

}  // namespace

void listen_to_log() {
  void* const library = ::dlopen("libucs.so.0", RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return;
  const auto push = reinterpret_cast<void (*)(Handler)>(::dlsym(library, "ucs_log_push_handler"));
  if (push != nullptr) push(&listen);
}

bool logged_error() { return first_error[0] != '\0'; }

std::string take_logged_error() {
  std::string text = first_error;
  first_error[0] = '\0';
  return text;
}

}  // namespace c10d::ucc_shim
