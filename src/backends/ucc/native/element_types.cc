#include "element_types.h"

#include <algorithm>
#include <string>

#include "c10d.h"
#include "library.h"
#include "ops/failure.h"
#include "reduction/reduction.h"

namespace c10d::ucc_shim {

namespace {

bool is_complex(uint32_t dtype) { return dtype == C10D_COMPLEX64 || dtype == C10D_COMPLEX128; }

bool is_floating(uint32_t dtype) {
  return dtype == C10D_FLOAT16 || dtype == C10D_FLOAT32 || dtype == C10D_FLOAT64 || dtype == C10D_BFLOAT16 ||
         is_complex(dtype);
}

/// What UCC 1.9 requires in a small all-reduce, unlike its documentation: an array of inputs, any of which may also be
/// the output.
void reduce_array(Reduction reduce, const uint16_t* const* inputs, size_t count, uint16_t* output, size_t elements) {
  constexpr size_t kBlock = 512;
  uint16_t block[kBlock];
  for (size_t at = 0; at < elements; at += kBlock) {
    const size_t n = std::min(kBlock, elements - at);
    std::copy_n(inputs[0] + at, n, block);
    for (size_t i = 1; i < count; i++) reduce(block, block, inputs[i] + at, n);
    std::copy_n(block, n, output + at);
  }
}

/// UCC has no float16 on CPUs, but accepts types with a user-defined reduction. It does not pass the context of such a
/// reduction, so each one has a function of its own.
template <uint32_t reduce_op>
ucc_status_t reduce_float16(const ucc_reduce_cb_params_t* params) {
  static const Reduction reduce = find_reduction(C10D_FLOAT16, reduce_op);
  if (params->src2 == nullptr) {
    reduce_array(reduce, static_cast<const uint16_t* const*>(params->src1), params->n_vectors,
                 static_cast<uint16_t*>(params->dst), params->count);
    return UCC_OK;
  }
  const void* left = params->src1;
  const auto* right = static_cast<const char*>(params->src2);
  for (size_t i = 0; i < params->n_vectors; i++) {
    reduce(params->dst, left, right + i * params->stride, params->count);
    left = params->dst;
  }
  return UCC_OK;
}

template <uint32_t reduce_op>
ucc_datatype_t make_float16() {
  ucc_generic_dt_ops_t ops{};
  ops.mask = UCC_GENERIC_DT_OPS_FIELD_FLAGS;
  ops.flags = UCC_GENERIC_DT_OPS_FLAG_CONTIG | UCC_GENERIC_DT_OPS_FLAG_REDUCE;
  ops.contig_size = sizeof(uint16_t);
  ops.reduce.cb = reduce_float16<reduce_op>;
  ucc_datatype_t made = 0;
  require(library().dt_create_generic(&ops, nullptr, &made), "UCC does not accept float16");
  return made;
}

ucc_datatype_t float16_type(uint32_t reduce_op) {
  static const ucc_datatype_t sum = make_float16<C10D_SUM>();
  static const ucc_datatype_t product = make_float16<C10D_PRODUCT>();
  static const ucc_datatype_t min = make_float16<C10D_MIN>();
  static const ucc_datatype_t max = make_float16<C10D_MAX>();
  switch (reduce_op) {
    case C10D_PRODUCT:
      return product;
    case C10D_MIN:
      return min;
    case C10D_MAX:
      return max;
    default:
      return sum;
  }
}

}  // namespace

ElementType element_type(uint32_t dtype, uint32_t reduce_op) {
  switch (dtype) {
    case C10D_UINT8:
    case C10D_BOOL:
      return {UCC_DT_UINT8, 1};
    case C10D_INT8:
      return {UCC_DT_INT8, 1};
    case C10D_INT16:
      return {UCC_DT_INT16, 2};
    case C10D_UINT16:
      return {UCC_DT_UINT16, 2};
    case C10D_BFLOAT16:
      return {UCC_DT_BFLOAT16, 2};
    case C10D_INT32:
      return {UCC_DT_INT32, 4};
    case C10D_UINT32:
      return {UCC_DT_UINT32, 4};
    case C10D_FLOAT16:
      return {float16_type(reduce_op), 2};
    case C10D_FLOAT32:
      return {UCC_DT_FLOAT32, 4};
    case C10D_INT64:
      return {UCC_DT_INT64, 8};
    case C10D_UINT64:
      return {UCC_DT_UINT64, 8};
    case C10D_FLOAT64:
      return {UCC_DT_FLOAT64, 8};
    case C10D_COMPLEX64:
      return {UCC_DT_FLOAT32_COMPLEX, 8};
    case C10D_COMPLEX128:
      return {UCC_DT_FLOAT64_COMPLEX, 16};
    default:
      throw Failure(C10D_ERR_UNSUPPORTED, "UCC does not reduce dtype " + std::to_string(dtype));
  }
}

bool averages(uint32_t dtype) { return is_floating(dtype) && dtype != C10D_FLOAT16; }

ucc_reduction_op_t reduction(uint32_t dtype, uint32_t reduce_op) {
  const bool boolean = dtype == C10D_BOOL;
  switch (reduce_op) {
    case C10D_SUM:
      return boolean ? UCC_OP_MAX : UCC_OP_SUM;
    case C10D_PRODUCT:
      return boolean ? UCC_OP_MIN : UCC_OP_PROD;
    case C10D_AVG:
      if (is_floating(dtype)) return UCC_OP_AVG;
      break;
    case C10D_MIN:
      if (!is_complex(dtype)) return UCC_OP_MIN;
      break;
    case C10D_MAX:
      if (!is_complex(dtype)) return UCC_OP_MAX;
      break;
    case C10D_BAND:
      if (!is_floating(dtype)) return UCC_OP_BAND;
      break;
    case C10D_BOR:
      if (!is_floating(dtype)) return UCC_OP_BOR;
      break;
    case C10D_BXOR:
      if (!is_floating(dtype)) return UCC_OP_BXOR;
      break;
    default:
      break;
  }
  throw Failure(C10D_ERR_UNSUPPORTED, "UCC does not have this reduction for dtype " + std::to_string(dtype));
}

}  // namespace c10d::ucc_shim
