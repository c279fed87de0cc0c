// Size and name of each dtype.
#pragma once

#include <cstddef>

#include "c10d.h"

namespace c10d {

struct DType {
  /// Bytes of one element; 0 for an unknown dtype.
  size_t size;
  const char* name;
};

constexpr DType dtype_of(uint32_t code) {
  switch (code) {
    case C10D_UINT8:
      return {1, "uint8"};
    case C10D_INT8:
      return {1, "int8"};
    case C10D_INT16:
      return {2, "int16"};
    case C10D_INT32:
      return {4, "int32"};
    case C10D_INT64:
      return {8, "int64"};
    case C10D_FLOAT16:
      return {2, "float16"};
    case C10D_FLOAT32:
      return {4, "float32"};
    case C10D_FLOAT64:
      return {8, "float64"};
    case C10D_COMPLEX64:
      return {8, "complex64"};
    case C10D_COMPLEX128:
      return {16, "complex128"};
    case C10D_BOOL:
      return {1, "bool"};
    case C10D_BFLOAT16:
      return {2, "bfloat16"};
    case C10D_FLOAT8_E5M2:
      return {1, "float8_e5m2"};
    case C10D_FLOAT8_E4M3FN:
      return {1, "float8_e4m3fn"};
    case C10D_UINT16:
      return {2, "uint16"};
    case C10D_UINT32:
      return {4, "uint32"};
    case C10D_UINT64:
      return {8, "uint64"};
    default:
      return {0, "unknown dtype"};
  }
}

/// Bytes of one element; 0 for an unknown dtype.
constexpr size_t element_size(uint32_t code) { return dtype_of(code).size; }

}  // namespace c10d
