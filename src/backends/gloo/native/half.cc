#include "half.h"

#include <gloo/types.h>

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace c10d::gloo_shim {

namespace {

void widen_portable(float* to, const uint16_t* from, size_t n) {
  for (size_t i = 0; i < n; i++) {
    gloo::float16 half;
    half.x = from[i];
    to[i] = gloo::cpu_half2float(half);
  }
}

void narrow_portable(uint16_t* to, const float* from, size_t n) {
  for (size_t i = 0; i < n; i++) to[i] = gloo::cpu_float2half_rn(from[i]).x;
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
  for (size_t i = 0; i < n; i++) {
    const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    std::memcpy(&to[i], &bits, sizeof bits);
  }
}

void BFloat16::narrow(uint16_t* to, const float* from, size_t n) {
  constexpr uint16_t kNaN = 0x7fc0;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = 0;
    std::memcpy(&bits, &from[i], sizeof bits);
    const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    to[i] = (bits & 0x7fffffffU) > 0x7f800000U ? kNaN : static_cast<uint16_t>(rounded);
  }
}

}  // namespace c10d::gloo_shim
