#include "config.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "cuda_emulator.h"
#include "random.h"

namespace cuemu {

namespace {

/// A variable that is no number in its range ends the process: a test must not run with another setting than it meant.
uint64_t number(const char* name, uint64_t fallback, uint64_t most) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return fallback;
  char* end = nullptr;
  errno = 0;
  const uint64_t value = std::strtoull(text, &end, 10);
  if (errno == 0 && *end == '\0' && *text != '-' && value <= most) return value;
  std::fprintf(stderr, "NCCL emulator: %s=%s is not a whole number up to %llu\n", name, text,
               static_cast<unsigned long long>(most));
  std::_Exit(2);
}

Config read() {
  Config config;
  config.devices = static_cast<int>(number("NCCL_EMULATOR_DEVICES", 4, 64));
  config.seed = mix(number("NCCL_EMULATOR_SEED", 1, UINT64_MAX));
  if (const char* rank = std::getenv("RANK")) config.seed = mix(config.seed ^ hash_text(rank));
  config.longest_delay = std::chrono::microseconds(number("NCCL_EMULATOR_DELAY_US", 200, 10'000'000));
  config.memory = number("NCCL_EMULATOR_MEMORY_MB", 1024, 1 << 20) << 20;
  config.free_wait = std::chrono::milliseconds(number("NCCL_EMULATOR_FREE_WAIT_MS", 2000, 3'600'000));
  config.null_mode = number("NCCL_EMULATOR_NULL", 0, 1) == 1;
  config.prints_faults = number("NCCL_EMULATOR_PRINT_FAULTS", 0, 1) == 1;
  return config;
}

}  // namespace

const Config& config() {
  static const Config config = read();
  return config;
}

}  // namespace cuemu

extern "C" int cuemu_null_mode() { return cuemu::config().null_mode ? 1 : 0; }
