#include "log.h"

#include <dlfcn.h>

#include <cstdarg>
#include <cstdio>

namespace c10d::ucc_shim {

namespace {

/// From ucs/debug/log.h, which UCX installs but not every distribution packages. UCC's values are the same.
enum Level { kFatal = 0, kError = 1 };
enum HandlerResult { kStop = 0, kContinue = 1 };
using Handler = int (*)(const char* file, unsigned line, const char* function, int level, const void* component,
                        const char* format, va_list arguments);

/// The log of the group that this thread serves. Without a destructor, since UCX logs from threads that are about to
/// end.
thread_local Log* current = nullptr;

int listen(const char*, unsigned, const char*, int level, const void*, const char* format, va_list arguments) {
  if (level <= kError && current != nullptr) current->record(format, arguments);
  return kContinue;
}

void listen_to(void* library, const char* name) {
  if (library == nullptr) return;
  const auto push = reinterpret_cast<void (*)(Handler)>(::dlsym(library, name));
  if (push != nullptr) push(&listen);
}

}  // namespace

void listen_to_log(void* ucc) {
  void* const ucx = ::dlopen("libucs.so.0", RTLD_NOW | RTLD_NOLOAD);
  listen_to(ucx, "ucs_log_push_handler");
  // An older UCC logs through UCX.
  listen_to(ucc, "ucc_log_push_handler");
}

Log::Call::Call(Log& log) : outer_(current) { current = &log; }
Log::Call::~Call() { current = outer_; }

void Log::record(const char* format, va_list arguments) {
  if (!empty()) return;
  va_list copied;
  va_copy(copied, arguments);
  std::vsnprintf(first_error_, sizeof first_error_, format, copied);
  va_end(copied);
}

std::string Log::take() {
  std::string text = first_error_;
  first_error_[0] = '\0';
  return text;
}

bool logged_error() { return current != nullptr && !current->empty(); }
std::string take_logged_error() { return current == nullptr ? "" : current->take(); }

}  // namespace c10d::ucc_shim
