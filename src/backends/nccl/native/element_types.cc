#include "element_types.h"

#include <cstring>
#include <string>

#include "library.h"
#include "ops/dtype.h"
#include "ops/names.generated.h"
#include "reduction/half.h"

namespace c10d::nccl_shim {

namespace {

[[noreturn]] void refuse(const std::string& text) { throw Failure(C10D_ERR_UNSUPPORTED, text); }

bool is_complex(uint32_t dtype) { return dtype == C10D_COMPLEX64 || dtype == C10D_COMPLEX128; }

bool is_bitwise(uint32_t reduce_op) {
  return reduce_op == C10D_BAND || reduce_op == C10D_BOR || reduce_op == C10D_BXOR;
}

std::optional<ElementType> type_of(uint32_t dtype) {
  switch (dtype) {
    case C10D_UINT8:
    case C10D_BOOL:
      return ElementType{NcclType::uint8, 1, 1};
    case C10D_INT8:
      return ElementType{NcclType::int8, 1, 1};
    case C10D_INT32:
      return ElementType{NcclType::int32, 4, 1};
    case C10D_UINT32:
      return ElementType{NcclType::uint32, 4, 1};
    case C10D_INT64:
      return ElementType{NcclType::int64, 8, 1};
    case C10D_UINT64:
      return ElementType{NcclType::uint64, 8, 1};
    case C10D_FLOAT16:
      return ElementType{NcclType::float16, 2, 1};
    case C10D_BFLOAT16:
      return ElementType{NcclType::bfloat16, 2, 1};
    case C10D_FLOAT32:
      return ElementType{NcclType::float32, 4, 1};
    case C10D_FLOAT64:
      return ElementType{NcclType::float64, 8, 1};
    case C10D_COMPLEX64:
      return ElementType{NcclType::float32, 4, 2};
    case C10D_COMPLEX128:
      return ElementType{NcclType::float64, 8, 2};
    case C10D_FLOAT8_E4M3FN:
      return ElementType{NcclType::float8_e4m3, 1, 1};
    case C10D_FLOAT8_E5M2:
      return ElementType{NcclType::float8_e5m2, 1, 1};
    default:
      return std::nullopt;
  }
}

bool is_float8(uint32_t dtype) { return dtype == C10D_FLOAT8_E4M3FN || dtype == C10D_FLOAT8_E5M2; }

bool can_premultiply(NcclType type) {
  return type == NcclType::float16 || type == NcclType::bfloat16 || type == NcclType::float32 ||
         type == NcclType::float64;
}

}  // namespace

ElementType moved_type(uint32_t dtype, int version) {
  const auto known = type_of(dtype);
  // Else as bytes: older versions have no float8, and none has integers of 16 bits.
  if (known && (!is_float8(dtype) || version >= nccl_version(2, 24, 0))) return *known;
  return {NcclType::uint8, 1, element_size(dtype)};
}

ElementType reduced_type(uint32_t dtype, uint32_t reduce_op, int version) {
  if (is_bitwise(reduce_op)) {
    refuse(std::string("Cannot use ReduceOp.") + reduce_op_name(reduce_op) + " with NCCL");
  }
  const auto type = type_of(dtype);
  if (!type) refuse(std::string("NCCL cannot reduce ") + dtype_of(dtype).name);
  if (is_float8(dtype) && version < nccl_version(2, 24, 0)) {
    refuse("NCCL can reduce float8 since 2.24: libnccl.so.2 is " + version_text(version));
  }
  if (dtype == C10D_BOOL && reduce_op == C10D_AVG) refuse("Cannot use ReduceOp.AVG with boolean inputs");
  if (reduce_op == C10D_PREMUL_SUM && (dtype == C10D_BOOL || !can_premultiply(type->type))) {
    refuse("PreMulSum Data type must be half, float, bfloat16 or double");
  }
  const bool linear = reduce_op == C10D_SUM || reduce_op == C10D_AVG || reduce_op == C10D_PREMUL_SUM;
  if (is_complex(dtype) && !linear) {
    refuse(std::string("Cannot use ReduceOp.") + reduce_op_name(reduce_op) + " with complex inputs");
  }
  return *type;
}

std::optional<NcclReduceOp> builtin_reduce_op(uint32_t dtype, uint32_t reduce_op) {
  switch (reduce_op) {
    case C10D_SUM:
      // A sum of bytes might overflow to false.
      return dtype == C10D_BOOL ? kNcclMax : kNcclSum;
    case C10D_AVG:
      return kNcclAvg;
    case C10D_PRODUCT:
      return kNcclProd;
    case C10D_MIN:
      return kNcclMin;
    case C10D_MAX:
      return kNcclMax;
    default:
      return std::nullopt;
  }
}

Scalar::Scalar(NcclType type, double value) {
  const auto single = static_cast<float>(value);
  uint16_t half = 0;
  switch (type) {
    case NcclType::float64:
      std::memcpy(bytes_, &value, sizeof value);
      return;
    case NcclType::float16:
      Float16::narrow(&half, &single, 1);
      std::memcpy(bytes_, &half, sizeof half);
      return;
    case NcclType::bfloat16:
      BFloat16::narrow(&half, &single, 1);
      std::memcpy(bytes_, &half, sizeof half);
      return;
    default:
      std::memcpy(bytes_, &single, sizeof single);
  }
}

}  // namespace c10d::nccl_shim
