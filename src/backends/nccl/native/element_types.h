// dtypes and reduce ops of c10d as NCCL's.
#pragma once

#include <cstdint>
#include <optional>

#include "nccl_api.h"

namespace c10d::nccl_shim {

/// How the elements of a dtype are passed: as `per_element` elements of NCCL's type.
struct ElementType {
  NcclType type;
  size_t bytes;
  size_t per_element;
};

/// For ops that only move data: any dtype.
ElementType moved_type(uint32_t dtype, int version);

/// For a reduction. Throws Failure with C10D_ERR_UNSUPPORTED, with PyTorch's text where it has one, if NCCL of this
/// version has none of this dtype.
ElementType reduced_type(uint32_t dtype, uint32_t reduce_op, int version);

/// NCCL's reduce op; of PREMUL_SUM nothing, since it is made for each call.
std::optional<NcclReduceOp> builtin_reduce_op(uint32_t dtype, uint32_t reduce_op);

/// One element of a type, to be passed by its address.
class Scalar {
 public:
  Scalar(NcclType type, double value);
  void* address() { return bytes_; }

 private:
  alignas(8) unsigned char bytes_[8] = {};
};

}  // namespace c10d::nccl_shim
