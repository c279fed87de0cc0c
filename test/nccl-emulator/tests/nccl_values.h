// Elements of NCCL's dtypes as numbers. Only small numbers that every dtype holds exactly.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "nccl_api.h"

namespace nccl_test {

struct Format {
  ncclDataType_t dtype;
  const char* name;
  size_t size;
  bool is_integer;
  int mantissa_bits, exponent_bits;  // Of floating point.

  std::vector<char> encode(const std::vector<double>& values) const;
  std::vector<double> decode(const std::vector<char>& bytes) const;
};

inline const std::vector<Format>& formats() {
  static const std::vector<Format> all{
      {ncclInt8, "int8", 1, true, 0, 0},          {ncclUint8, "uint8", 1, true, 0, 0},
      {ncclInt32, "int32", 4, true, 0, 0},        {ncclUint32, "uint32", 4, true, 0, 0},
      {ncclInt64, "int64", 8, true, 0, 0},        {ncclUint64, "uint64", 8, true, 0, 0},
      {ncclFloat16, "float16", 2, false, 10, 5},  {ncclFloat32, "float32", 4, false, 23, 8},
      {ncclFloat64, "float64", 8, false, 52, 11}, {ncclBfloat16, "bfloat16", 2, false, 7, 8},
      {ncclFloat8e4m3, "e4m3", 1, false, 3, 4},   {ncclFloat8e5m2, "e5m2", 1, false, 2, 5},
  };
  return all;
}

// Positive normal numbers and 0 only.
inline std::vector<char> Format::encode(const std::vector<double>& values) const {
  std::vector<char> bytes;
  for (double value : values) {
    uint64_t bits = static_cast<uint64_t>(value);
    if (!is_integer && value > 0) {
      int exponent = std::ilogb(value);
      auto bias = (1 << (exponent_bits - 1)) - 1;
      auto fraction = static_cast<uint64_t>(std::ldexp(value, mantissa_bits - exponent)) - (1ULL << mantissa_bits);
      bits = (static_cast<uint64_t>(exponent + bias) << mantissa_bits) + fraction;
    }
    for (size_t i = 0; i < size; i++) bytes.push_back(static_cast<char>(bits >> (8 * i)));
  }
  return bytes;
}

inline std::vector<double> Format::decode(const std::vector<char>& bytes) const {
  std::vector<double> values;
  for (size_t start = 0; start + size <= bytes.size(); start += size) {
    uint64_t bits = 0;
    for (size_t i = 0; i < size; i++) bits |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[start + i])) << (8 * i);
    auto value = static_cast<double>(bits);
    if (!is_integer && bits != 0) {
      auto bias = (1 << (exponent_bits - 1)) - 1;
      auto fraction = static_cast<double>(bits & ((1ULL << mantissa_bits) - 1));
      auto exponent = static_cast<int>(bits >> mantissa_bits) - bias;
      value = std::ldexp(1 + std::ldexp(fraction, -mantissa_bits), exponent);
    }
    values.push_back(value);
  }
  return values;
}

}  // namespace nccl_test
