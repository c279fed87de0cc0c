#include "reduction/reduction.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "reduction/half.h"

namespace c10d {

namespace {

/// Integers wrap around: compute in the unsigned type of at least int's width.
template <class T>
using Wide = std::conditional_t<sizeof(T) < sizeof(uint32_t), uint32_t, std::make_unsigned_t<T>>;

struct Sum {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Wide<T>>(a) + static_cast<Wide<T>>(b));
    } else {
      return a + b;
    }
  }
};
struct Product {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b));
    } else {
      return a * b;
    }
  }
};
struct Min {
  template <class T>
  static T apply(T a, T b) {
    return std::min(a, b);
  }
};
struct Max {
  template <class T>
  static T apply(T a, T b) {
    return std::max(a, b);
  }
};
struct BitAnd {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a & b);
  }
};
struct BitOr {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a | b);
  }
};
struct BitXor {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};

template <class T, class Op>
void reduce(void* c, const void* a, const void* b, size_t n) {
  auto* to = static_cast<T*>(c);
  const auto* left = static_cast<const T*>(a);
  const auto* right = static_cast<const T*>(b);
  // c may be a or b itself; without the pragma the compiler would not vectorize because of that.
#pragma GCC ivdep
  for (size_t i = 0; i < n; i++) to[i] = Op::apply(left[i], right[i]);
}

/// 16-bit floats: widen a block to float, reduce, narrow it again.
template <class Format, class Op>
void reduce_half(void* c, const void* a, const void* b, size_t n) {
  constexpr size_t kBlock = 256;
  float left[kBlock];
  float right[kBlock];
  for (size_t i = 0; i < n; i += kBlock) {
    const size_t count = std::min(kBlock, n - i);
    Format::widen(left, static_cast<const uint16_t*>(a) + i, count);
    Format::widen(right, static_cast<const uint16_t*>(b) + i, count);
    for (size_t k = 0; k < count; k++) left[k] = Op::apply(left[k], right[k]);
    Format::narrow(static_cast<uint16_t*>(c) + i, left, count);
  }
}

/// bool is a byte of 0 or 1: sums are OR, products AND.
struct LogicalOr {
  static uint8_t apply(uint8_t a, uint8_t b) { return (a | b) != 0 ? 1 : 0; }
};
struct LogicalAnd {
  static uint8_t apply(uint8_t a, uint8_t b) { return a != 0 && b != 0 ? 1 : 0; }
};

template <class T>
Reduction arithmetic(uint32_t op) {
  switch (op) {
    case C10D_SUM:
    case C10D_AVG:
    case C10D_PREMUL_SUM:
      return reduce<T, Sum>;
    case C10D_PRODUCT:
      return reduce<T, Product>;
    case C10D_MIN:
      return reduce<T, Min>;
    case C10D_MAX:
      return reduce<T, Max>;
    default:
      return nullptr;
  }
}

template <class T>
Reduction integral(uint32_t op) {
  switch (op) {
    case C10D_AVG:
    case C10D_PREMUL_SUM:
      return nullptr;
    case C10D_BAND:
      return reduce<T, BitAnd>;
    case C10D_BOR:
      return reduce<T, BitOr>;
    case C10D_BXOR:
      return reduce<T, BitXor>;
    default:
      return arithmetic<T>(op);
  }
}

template <class Format>
Reduction half(uint32_t op) {
  switch (op) {
    case C10D_SUM:
    case C10D_AVG:
    case C10D_PREMUL_SUM:
      return reduce_half<Format, Sum>;
    case C10D_PRODUCT:
      return reduce_half<Format, Product>;
    case C10D_MIN:
      return reduce_half<Format, Min>;
    case C10D_MAX:
      return reduce_half<Format, Max>;
    default:
      return nullptr;
  }
}

Reduction boolean(uint32_t op) {
  switch (op) {
    case C10D_SUM:
    case C10D_MAX:
    case C10D_BOR:
      return reduce<uint8_t, LogicalOr>;
    case C10D_PRODUCT:
    case C10D_MIN:
    case C10D_BAND:
      return reduce<uint8_t, LogicalAnd>;
    case C10D_BXOR:
      return reduce<uint8_t, BitXor>;
    default:
      return nullptr;
  }
}

/// Complex numbers are pairs of floats; only sums work element by element.
template <class T>
Reduction complex(uint32_t op) {
  if (op != C10D_SUM && op != C10D_AVG) return nullptr;
  return [](void* c, const void* a, const void* b, size_t n) { reduce<T, Sum>(c, a, b, 2 * n); };
}

/// Applies `change` to each element, as a float or double.
template <class T, class Change>
void change_plain(void* data, size_t n, Change change) {
  auto* values = static_cast<T*>(data);
  for (size_t i = 0; i < n; i++) values[i] = change(values[i]);
}

template <class Format, class Change>
void change_half(void* data, size_t n, Change change) {
  auto* values = static_cast<uint16_t*>(data);
  constexpr size_t kBlock = 256;
  float wide[kBlock];
  for (size_t i = 0; i < n; i += kBlock) {
    const size_t count = std::min(kBlock, n - i);
    Format::widen(wide, values + i, count);
    for (size_t k = 0; k < count; k++) wide[k] = change(wide[k]);
    Format::narrow(values + i, wide, count);
  }
}

template <class Change>
void change_floats(void* data, size_t n, uint32_t dtype, Change change) {
  switch (dtype) {
    case C10D_FLOAT32:
      return change_plain<float>(data, n, change);
    case C10D_FLOAT64:
      return change_plain<double>(data, n, change);
    case C10D_FLOAT16:
      return change_half<Float16>(data, n, change);
    case C10D_BFLOAT16:
      return change_half<BFloat16>(data, n, change);
    case C10D_COMPLEX64:
      return change_plain<float>(data, 2 * n, change);
    case C10D_COMPLEX128:
      return change_plain<double>(data, 2 * n, change);
    default:
      return;
  }
}

}  // namespace

Reduction find_reduction(uint32_t dtype, uint32_t reduce_op) {
  switch (dtype) {
    case C10D_FLOAT32:
      return arithmetic<float>(reduce_op);
    case C10D_FLOAT64:
      return arithmetic<double>(reduce_op);
    case C10D_FLOAT16:
      return half<Float16>(reduce_op);
    case C10D_BFLOAT16:
      return half<BFloat16>(reduce_op);
    case C10D_INT8:
      return integral<int8_t>(reduce_op);
    case C10D_UINT8:
      return integral<uint8_t>(reduce_op);
    case C10D_INT16:
      return integral<int16_t>(reduce_op);
    case C10D_UINT16:
      return integral<uint16_t>(reduce_op);
    case C10D_INT32:
      return integral<int32_t>(reduce_op);
    case C10D_UINT32:
      return integral<uint32_t>(reduce_op);
    case C10D_INT64:
      return integral<int64_t>(reduce_op);
    case C10D_UINT64:
      return integral<uint64_t>(reduce_op);
    case C10D_BOOL:
      return boolean(reduce_op);
    case C10D_COMPLEX64:
      return complex<float>(reduce_op);
    case C10D_COMPLEX128:
      return complex<double>(reduce_op);
    default:
      return nullptr;
  }
}

void divide(void* data, size_t n, uint32_t dtype, int divisor) {
  change_floats(data, n, dtype, [divisor](auto value) { return value / static_cast<decltype(value)>(divisor); });
}

void multiply(void* data, size_t n, uint32_t dtype, double factor) {
  change_floats(data, n, dtype, [factor](auto value) { return value * static_cast<decltype(value)>(factor); });
}

}  // namespace c10d
