#include "op_check.h"

#include "element_types.h"
#include "ops/call_text.h"
#include "ops/failure.h"

namespace c10d::ucc_shim {

namespace {

/// UCX keeps 15 bits of a message's tag, and UCC reserves the last 8 numbers. The first bit distinguishes the two parts
/// of a message.
constexpr uint32_t kLargestTag = (1U << 14) - 9;

}  // namespace

bool scatters_reduced(uint32_t opcode) {
  return opcode == C10D_OP_REDUCE_SCATTER || opcode == C10D_OP_REDUCE_SCATTER_BASE ||
         opcode == C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED;
}

void check_op(const Op& op) {
  const auto& request = op.request;
  if (op.point_to_point() && request.opcode != C10D_OP_RECV_ANY_SOURCE) {
    if (request.tag <= kLargestTag) return;
    throw Failure(C10D_ERR_INVALID, "tag " + std::to_string(request.tag) + " is too large: UCC has tags up to 16375");
  }
  if (!is_common_collective(request.opcode) && request.opcode != C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED) {
    throw Failure(C10D_ERR_UNSUPPORTED, "UCC has no such op");
  }
  if (request.opcode == C10D_OP_BARRIER && (request.flags & C10D_FLAG_MONITORED) != 0) {
    throw Failure(C10D_ERR_UNSUPPORTED, "UCC has no monitored barrier");
  }
  if (!is_reduction(request.opcode)) return;
  (void)reduction(request.dtype, request.reduce_op);
  (void)element_type(request.dtype, request.reduce_op);
}

}  // namespace c10d::ucc_shim
