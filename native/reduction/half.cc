#include "reduction/half.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace c10d {

namespace {

uint32_t bits_of(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float widen_one(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t magnitude = half & 0x7fffU;
  // Infinities and NaNs keep the highest exponent; a NaN becomes quiet, as in the processor's conversion.
  if (magnitude >= 0x7c00U)
    return float_of(sign | 0x7f800000U | (magnitude > 0x7c00U ? 0x400000U : 0U) | magnitude << 13);
  if (magnitude >= 0x0400U) return float_of(sign | ((magnitude << 13) + 0x38000000U));
  // A subnormal is its digits times 2^-24, which a float holds exactly.
  return float_of(sign | bits_of(static_cast<float>(magnitude) * 0x1p-24F));
}

uint16_t narrow_one(float value) {
  const uint32_t bits = bits_of(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x1ffU));
  // From half a step above the largest half on, rounding gives infinity.
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);
  if (magnitude < 0x38800000U) {
    // Subnormal: adding 0.5 lets the float unit round to the same place.
    return static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5F) - bits_of(0.5F)));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13) & 1U)) >> 13));
}

void widen_portable(float* to, const uint16_t* from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = widen_one(from[i]);
}

void narrow_portable(uint16_t* to, const float* from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = narrow_one(from[i]);
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) void widen_f16c(float* to, const uint16_t* from, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  for (; i < n; i++) to[i] = _cvtsh_ss(from[i]);
}

__attribute__((target("avx,f16c"))) void narrow_f16c(uint16_t* to, const float* from, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < n; i++) to[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

const bool kHasF16c = __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
#endif

}  // namespace

void Float16::widen(float* to, const uint16_t* from, size_t n) {
#if defined(__x86_64__)
  if (kHasF16c) return widen_f16c(to, from, n);
#endif
  widen_portable(to, from, n);
}

void Float16::narrow(uint16_t* to, const float* from, size_t n) {
#if defined(__x86_64__)
  if (kHasF16c) return narrow_f16c(to, from, n);
#endif
  narrow_portable(to, from, n);
}

void BFloat16::widen(float* to, const uint16_t* from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = float_of(static_cast<uint32_t>(from[i]) << 16);
}

void BFloat16::narrow(uint16_t* to, const float* from, size_t n) {
  constexpr uint16_t kNaN = 0x7fc0;
  for (size_t i = 0; i < n; i++) {
    const uint32_t bits = bits_of(from[i]);
    const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    to[i] = (bits & 0x7fffffffU) > 0x7f800000U ? kNaN : static_cast<uint16_t>(rounded);
  }
}

}  // namespace c10d
