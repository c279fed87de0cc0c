// Conversions between float and the two 16-bit formats, a block at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace c10d {

/// IEEE 754 binary16.
struct Float16 {
  static void widen(float* to, const uint16_t* from, size_t n);
  static void narrow(uint16_t* to, const float* from, size_t n);
};

/// The upper half of a float.
struct BFloat16 {
  static void widen(float* to, const uint16_t* from, size_t n);
  static void narrow(uint16_t* to, const float* from, size_t n);
};

}  // namespace c10d
