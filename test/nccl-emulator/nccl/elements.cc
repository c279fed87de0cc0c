#include "elements.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "float8.h"
#include "reduction/half.h"

namespace nccl_emulator {
namespace {

constexpr size_t block = 1024;

template <class T>
T read(const char* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void write(char* to, T value) {
  memcpy(to, &value, sizeof value);
}

template <class T>
T combine(T a, T b, Reduction reduction) {
  if constexpr (std::is_integral_v<T>) {
    // In an unsigned type that is not promoted to int, so that it wraps around.
    using Wide = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;
    switch (reduction) {
      case Reduction::product:
        return static_cast<T>(static_cast<Wide>(a) * static_cast<Wide>(b));
      case Reduction::maximum:
        return std::max(a, b);
      case Reduction::minimum:
        return std::min(a, b);
      default:
        return static_cast<T>(static_cast<Wide>(a) + static_cast<Wide>(b));
    }
  } else {
    switch (reduction) {
      case Reduction::product:
        return a * b;
      case Reduction::maximum:
        return std::fmax(a, b);
      case Reduction::minimum:
        return std::fmin(a, b);
      default:
        return a + b;
    }
  }
}

// Types that are reduced as they are.
template <class T>
void reduce_plain(char* to, const std::vector<Operand>& operands, size_t count, Reduction reduction) {
  std::vector<T> factors;
  for (auto& operand : operands) factors.push_back(read<T>(operand.factor.data()));
  bool scaled = reduction == Reduction::premultiplied_sum;
  for (size_t start = 0; start < count; start += block) {
    auto n = std::min(block, count - start);
    T sums[block], values[block];
    for (size_t rank = 0; rank < operands.size(); rank++) {
      memcpy(values, operands[rank].data + start * sizeof(T), n * sizeof(T));
      if (scaled)
        for (size_t i = 0; i < n; i++) values[i] = combine(values[i], factors[rank], Reduction::product);
      for (size_t i = 0; i < n; i++) sums[i] = rank == 0 ? values[i] : combine(sums[i], values[i], reduction);
    }
    if constexpr (std::is_integral_v<T>)
      if (reduction == Reduction::integer_average)
        for (size_t i = 0; i < n; i++) sums[i] = static_cast<T>(sums[i] / static_cast<T>(operands.size()));
    memcpy(to + start * sizeof(T), sums, n * sizeof(T));
  }
}

void widen_block(float* to, const char* from, size_t n, ncclDataType_t dtype) {
  uint16_t halves[block];
  switch (dtype) {
    case ncclFloat16:
      memcpy(halves, from, n * 2);
      return c10d::Float16::widen(to, halves, n);
    case ncclBfloat16:
      memcpy(halves, from, n * 2);
      return c10d::BFloat16::widen(to, halves, n);
    default:
      auto format = dtype == ncclFloat8e4m3 ? Float8::e4m3 : Float8::e5m2;
      for (size_t i = 0; i < n; i++) to[i] = widen(format, static_cast<uint8_t>(from[i]));
  }
}

void narrow_block(char* to, const float* from, size_t n, ncclDataType_t dtype) {
  uint16_t halves[block];
  switch (dtype) {
    case ncclFloat16:
      c10d::Float16::narrow(halves, from, n);
      memcpy(to, halves, n * 2);
      return;
    case ncclBfloat16:
      c10d::BFloat16::narrow(halves, from, n);
      memcpy(to, halves, n * 2);
      return;
    default:
      auto format = dtype == ncclFloat8e4m3 ? Float8::e4m3 : Float8::e5m2;
      for (size_t i = 0; i < n; i++) to[i] = static_cast<char>(narrow(format, from[i]));
  }
}

void reduce_small_floats(char* to, const std::vector<Operand>& operands, size_t count, ncclDataType_t dtype,
                         Reduction reduction) {
  auto size = element_size(dtype);
  float sums[block], values[block], factor[1];
  for (size_t start = 0; start < count; start += block) {
    auto n = std::min(block, count - start);
    for (size_t rank = 0; rank < operands.size(); rank++) {
      auto& operand = operands[rank];
      widen_block(values, operand.data + start * size, n, dtype);
      if (reduction == Reduction::premultiplied_sum) {
        widen_block(factor, operand.factor.data(), 1, dtype);
        for (size_t i = 0; i < n; i++) values[i] *= factor[0];
      }
      for (size_t i = 0; i < n; i++) sums[i] = rank == 0 ? values[i] : combine(sums[i], values[i], reduction);
    }
    narrow_block(to + start * size, sums, n, dtype);
  }
}

}  // namespace

size_t element_size(ncclDataType_t dtype) {
  switch (dtype) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
  }
  return 0;
}

bool is_integer(ncclDataType_t dtype) { return dtype <= ncclUint64; }

Element reciprocal(ncclDataType_t dtype, int n) {
  Element element{};
  auto exact = 1.0 / n;
  auto rounded = static_cast<float>(exact);
  if (dtype == ncclFloat64)
    write(element.data(), exact);
  else if (dtype == ncclFloat32)
    write(element.data(), rounded);
  else if (!is_integer(dtype))
    narrow_block(element.data(), &rounded, 1, dtype);
  return element;
}

void reduce_elements(char* to, const std::vector<Operand>& operands, size_t count, ncclDataType_t dtype,
                     Reduction reduction) {
  switch (dtype) {
    case ncclInt8:
      return reduce_plain<int8_t>(to, operands, count, reduction);
    case ncclUint8:
      return reduce_plain<uint8_t>(to, operands, count, reduction);
    case ncclInt32:
      return reduce_plain<int32_t>(to, operands, count, reduction);
    case ncclUint32:
      return reduce_plain<uint32_t>(to, operands, count, reduction);
    case ncclInt64:
      return reduce_plain<int64_t>(to, operands, count, reduction);
    case ncclUint64:
      return reduce_plain<uint64_t>(to, operands, count, reduction);
    case ncclFloat32:
      return reduce_plain<float>(to, operands, count, reduction);
    case ncclFloat64:
      return reduce_plain<double>(to, operands, count, reduction);
    default:
      return reduce_small_floats(to, operands, count, dtype, reduction);
  }
}

}  // namespace nccl_emulator
