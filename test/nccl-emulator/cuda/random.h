// Numbers that depend on the seed only.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

namespace cuemu {

/// SplitMix64's finalizer.
constexpr uint64_t mix(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

/// FNV-1a.
constexpr uint64_t hash_text(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char each : text) hash = (hash ^ static_cast<uint8_t>(each)) * 0x100000001b3;
  return hash;
}

/// A quarter of the delays are none, the others up to the longest.
std::chrono::microseconds delay_of(uint64_t random);

}  // namespace cuemu
