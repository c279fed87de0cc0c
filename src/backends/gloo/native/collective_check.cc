#include "collective_check.h"

#include "ops/call_text.h"
#include "ops/failure.h"
#include "reduction/reduction.h"

namespace c10d::gloo_shim {

void check_collective(const Op& op) {
  const auto& request = op.request;
  if (request.opcode == C10D_OP_BARRIER) return;
  if (op.point_to_point() || request.opcode == C10D_OP_COALESCED ||
      request.opcode == C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED) {
    throw Failure(C10D_ERR_UNSUPPORTED, "gloo does not implement this op");
  }
  if (is_reduction(request.opcode) &&
      (request.reduce_op == C10D_PREMUL_SUM || find_reduction(request.dtype, request.reduce_op) == nullptr)) {
    throw Failure(C10D_ERR_UNSUPPORTED, "gloo has no such reduction for this dtype");
  }
}

uint32_t tags_of(const Op& op) {
  if (is_second_half(op)) return 0;
  if (op.request.opcode == C10D_OP_REDUCE_SCATTER) return static_cast<uint32_t>(op.inputs.size());
  return (op.request.flags & C10D_FLAG_MONITORED) != 0 ? 2 : 1;
}

}  // namespace c10d::gloo_shim
