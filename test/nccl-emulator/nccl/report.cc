#include "report.h"

#include <cstdarg>
#include <cstdio>
#include <mutex>
#include <string>

#include "cuda_emulator.h"

namespace nccl_emulator {
namespace {

constexpr size_t longest = 1024;

// Never destroyed: threads of streams may still run while the process ends.
struct LastError {
  std::mutex mutex;
  std::string text;
};

LastError& shared_error() {
  static auto* error = new LastError;
  return *error;
}

std::string formatted(const char* format, va_list arguments) {
  char text[longest];
  vsnprintf(text, sizeof text, format, arguments);
  return text;
}

void keep(const std::string& text) {
  auto& error = shared_error();
  std::lock_guard lock(error.mutex);
  error.text = text;
}

}  // namespace

ncclResult_t refuse(ncclResult_t result, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  keep(formatted(format, arguments));
  va_end(arguments);
  return result;
}

ncclResult_t misuse(ncclResult_t result, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  auto text = formatted(format, arguments);
  va_end(arguments);
  keep(text);
  cuemu_report(("NCCL emulator: " + text).c_str());
  return result;
}

const char* last_error() {
  thread_local std::string copy;
  auto& error = shared_error();
  std::lock_guard lock(error.mutex);
  copy = error.text;
  return copy.c_str();
}

}  // namespace nccl_emulator
