// Element-wise reductions: c[i] = a[i] op b[i]; c may be a.
#pragma once

#include <cstddef>

#include "c10d.h"
#include "ops/dtype.h"

namespace c10d {

using Reduction = void (*)(void* c, const void* a, const void* b, size_t n);

/// The reduction for a dtype; nullptr if the dtype has no such reduction. For AVG and PREMUL_SUM it is that of SUM.
Reduction find_reduction(uint32_t dtype, uint32_t reduce_op);

/// Divides floating-point elements by `divisor`, in place.
void divide(void* data, size_t n, uint32_t dtype, int divisor);

/// Multiplies floating-point elements by `factor`, in place.
void multiply(void* data, size_t n, uint32_t dtype, double factor);

}  // namespace c10d
