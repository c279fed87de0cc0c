// Arithmetic on elements of NCCL's dtypes.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "nccl_api.h"

namespace nccl_emulator {

size_t element_size(ncclDataType_t dtype);

/// One element of any dtype.
using Element = std::array<char, 8>;

/// 1/n as NCCL multiplies with it for ncclAvg: rounded to the dtype.
Element reciprocal(ncclDataType_t dtype, int n);

bool is_integer(ncclDataType_t dtype);

/// What one rank puts into a reduction.
struct Operand {
  const char* data;
  Element factor;  ///< Used if the reduction is a premultiplied sum.
};

/// How operands are reduced; `average` of integers divides the sum, that of others is a premultiplied sum.
enum class Reduction { sum, product, maximum, minimum, integer_average, premultiplied_sum };

/// Writes the reduction of `count` elements of each operand, in their order. Formats of 16 and 8 bits are added up as
/// float and rounded once.
void reduce_elements(char* to, const std::vector<Operand>& operands, size_t count, ncclDataType_t dtype,
                     Reduction reduction);

}  // namespace nccl_emulator
