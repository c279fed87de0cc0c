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
  switch (request.opcode) {
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_REDUCE:
    case C10D_OP_ALLGATHER:
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
    case C10D_OP_GATHER:
    case C10D_OP_SCATTER:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
      break;
    case C10D_OP_SEND:
    case C10D_OP_RECV:
      if (request.tag > kLargestTag)
        throw Failure(C10D_ERR_INVALID,
                      "tag " + std::to_string(request.tag) + " is too large: UCC has tags up to 16375");
      break;
    case C10D_OP_BARRIER:
      if ((request.flags & C10D_FLAG_MONITORED) == 0) break;
      throw Failure(C10D_ERR_UNSUPPORTED, "UCC has no monitored barrier");
    default:
      throw Failure(C10D_ERR_UNSUPPORTED, "UCC has no such op");
  }
  if (!is_reduction(request.opcode)) return;
  (void)reduction(request.dtype, request.reduce_op);
  (void)element_type(request.dtype, request.reduce_op);
}

}  // namespace c10d::ucc_shim
