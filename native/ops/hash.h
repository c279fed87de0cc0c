// A 64-bit hash of several numbers.
#pragma once

#include <cstdint>

namespace c10d {

/// The hash of the numbers hashed in `seed`, followed by `value`.
constexpr uint64_t mixed(uint64_t seed, uint64_t value) {
  uint64_t x = (seed ^ value) + 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace c10d
