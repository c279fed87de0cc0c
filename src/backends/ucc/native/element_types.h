// dtypes and reduce ops in UCC's terms.
#pragma once

#include <ucc/api/ucc.h>

#include <cstddef>
#include <cstdint>

namespace c10d::ucc_shim {

struct ElementType {
  ucc_datatype_t datatype;
  size_t bytes;
};

/// The type for reducing elements by `reduce_op`. Throws Failure with C10D_ERR_UNSUPPORTED if UCC does not reduce this
/// dtype.
ElementType element_type(uint32_t dtype, uint32_t reduce_op);

/// Throws Failure with C10D_ERR_UNSUPPORTED if UCC does not have this reduction for the dtype. A bool is a byte of 0 or
/// 1: its sum is OR and its product is AND.
ucc_reduction_op_t reduction(uint32_t dtype, uint32_t reduce_op);

/// Whether UCC averages such elements itself in an all-reduce or a reduce.
bool averages(uint32_t dtype);

}  // namespace c10d::ucc_shim
