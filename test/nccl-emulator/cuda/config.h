// What the environment says, read at first use.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace cuemu {

struct Config {
  int devices = 4;
  uint64_t seed = 1;
  std::chrono::microseconds longest_delay{200};
  size_t memory = 0;
  std::chrono::milliseconds free_wait{2000};
  bool null_mode = false;
  bool prints_faults = false;
};

const Config& config();

}  // namespace cuemu
