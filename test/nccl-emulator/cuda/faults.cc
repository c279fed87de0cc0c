#include "faults.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "config.h"

namespace cuemu {

namespace {

/// So many are kept; the others are counted.
constexpr size_t kept = 1000;

struct Faults {
  std::mutex mutex;
  uint64_t count = 0;
  std::vector<std::string> texts;
  std::string last;
};

/// Never destroyed: threads of streams run until the process ends.
Faults& faults() {
  static auto& faults = *new Faults();
  return faults;
}

int32_t put(const std::string& fault, char* text, uint32_t capacity) {
  if (text != nullptr && capacity > 0) {
    const size_t length = std::min<size_t>(fault.size(), capacity - 1);
    std::memcpy(text, fault.data(), length);
    text[length] = '\0';
  }
  return static_cast<int32_t>(fault.size());
}

}  // namespace

CUresult fault(CUresult error, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  cuemu_report(text);
  return error;
}

}  // namespace cuemu

extern "C" void cuemu_report(const char* text) {
  auto& faults = cuemu::faults();
  const std::lock_guard<std::mutex> lock(faults.mutex);
  faults.count++;
  faults.last = text;
  if (faults.texts.size() < cuemu::kept) faults.texts.push_back(faults.last);
  if (cuemu::config().prints_faults) std::fprintf(stderr, "NCCL emulator: fault: %s\n", text);
}

extern "C" uint64_t cuemu_faults() {
  auto& faults = cuemu::faults();
  const std::lock_guard<std::mutex> lock(faults.mutex);
  return faults.count;
}

extern "C" int32_t cuemu_last_fault(char* text, uint32_t capacity) {
  auto& faults = cuemu::faults();
  const std::lock_guard<std::mutex> lock(faults.mutex);
  return faults.count == 0 ? -1 : cuemu::put(faults.last, text, capacity);
}

extern "C" int32_t cuemu_fault(uint64_t index, char* text, uint32_t capacity) {
  auto& faults = cuemu::faults();
  const std::lock_guard<std::mutex> lock(faults.mutex);
  return index >= faults.texts.size() ? -1 : cuemu::put(faults.texts[index], text, capacity);
}
