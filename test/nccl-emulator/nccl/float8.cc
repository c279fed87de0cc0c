#include "float8.h"

#include <cmath>
#include <limits>

namespace nccl_emulator {
namespace {

struct Layout {
  int mantissa_bits, smallest_exponent;
  uint8_t largest, nan;
  float largest_value;
};

Layout layout(Float8 format) {
  return format == Float8::e4m3 ? Layout{3, -6, 0x7e, 0x7f, 448.0F} : Layout{2, -14, 0x7b, 0x7f, 57344.0F};
}

}  // namespace

float widen(Float8 format, uint8_t code) {
  auto l = layout(format);
  int magnitude = code & 0x7f;
  float value;
  if (format == Float8::e5m2 && magnitude == 0x7c) {
    value = std::numeric_limits<float>::infinity();
  } else if (magnitude > l.largest) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else {
    int exponent = magnitude >> l.mantissa_bits;
    int mantissa = magnitude & ((1 << l.mantissa_bits) - 1);
    if (exponent > 0) mantissa += 1 << l.mantissa_bits;
    int power = l.smallest_exponent + (exponent > 0 ? exponent - 1 : 0) - l.mantissa_bits;
    value = std::ldexp(static_cast<float>(mantissa), power);
  }
  return code & 0x80 ? -value : value;
}

uint8_t narrow(Float8 format, float value) {
  auto l = layout(format);
  auto sign = static_cast<uint8_t>(std::signbit(value) ? 0x80 : 0);
  if (std::isnan(value)) return sign | l.nan;
  float magnitude = std::fabs(value);
  if (magnitude >= l.largest_value) return sign | l.largest;
  int exponent = l.smallest_exponent;
  if (magnitude > 0) {
    int found;
    std::frexp(magnitude, &found);
    if (found - 1 > exponent) exponent = found - 1;
  }
  // In units of the last place; nearbyint rounds to even.
  auto units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, l.mantissa_bits - exponent)));
  int implicit = 1 << l.mantissa_bits;
  int steps = exponent - l.smallest_exponent;
  int code = units < implicit ? units : ((steps + 1) << l.mantissa_bits) + units - implicit;
  return sign | static_cast<uint8_t>(code > l.largest ? l.largest : code);
}

}  // namespace nccl_emulator
