// The two 8-bit floating-point formats, as CUDA converts them: to nearest even, saturating at the largest finite value.
#pragma once

#include <cstdint>

namespace nccl_emulator {

enum class Float8 { e4m3, e5m2 };

float widen(Float8 format, uint8_t code);
uint8_t narrow(Float8 format, float value);

}  // namespace nccl_emulator
