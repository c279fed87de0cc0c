#include "collective_check.h"

#include "ops/call_text.h"
#include "ops/failure.h"
#include "reduction/reduction.h"

namespace c10d::gloo_shim {

namespace {

bool is_implemented(uint32_t opcode) { return is_common_collective(opcode) || opcode == C10D_OP_ALLREDUCE_SPARSE; }

}  // namespace

void check_collective(const Op& op) {
  const auto& request = op.request;
  if (!is_implemented(request.opcode)) throw Failure(C10D_ERR_UNSUPPORTED, "gloo does not implement this op");
  if (request.opcode == C10D_OP_BARRIER) return;
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
