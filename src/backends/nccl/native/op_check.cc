#include "op_check.h"

#include "element_types.h"
#include "ops/call_text.h"

namespace c10d::nccl_shim {

namespace {

constexpr uint64_t bit(uint32_t number) { return uint64_t{1} << number; }

/// All but those without a known peer, and those that need memory of the host.
constexpr uint64_t kOps = bit(C10D_OP_BROADCAST) | bit(C10D_OP_ALLREDUCE) | bit(C10D_OP_ALLREDUCE_COALESCED) |
                          bit(C10D_OP_REDUCE) | bit(C10D_OP_ALLGATHER) | bit(C10D_OP_ALLGATHER_BASE) |
                          bit(C10D_OP_ALLGATHER_COALESCED) | bit(C10D_OP_GATHER) | bit(C10D_OP_SCATTER) |
                          bit(C10D_OP_REDUCE_SCATTER) | bit(C10D_OP_ALLTOALL_BASE) | bit(C10D_OP_ALLTOALL) |
                          bit(C10D_OP_SEND) | bit(C10D_OP_RECV) | bit(C10D_OP_BARRIER) |
                          bit(C10D_OP_REDUCE_SCATTER_BASE) | bit(C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED);
constexpr uint64_t kRegistration = bit(C10D_SERVICE_REGISTER_MEMORY) | bit(C10D_SERVICE_DEREGISTER_MEMORY);
constexpr uint64_t kWindows = bit(C10D_SERVICE_OPEN_WINDOW) | bit(C10D_SERVICE_CLOSE_WINDOW);
constexpr uint64_t kReduceOps =
    bit(C10D_SUM) | bit(C10D_AVG) | bit(C10D_PRODUCT) | bit(C10D_MIN) | bit(C10D_MAX) | bit(C10D_PREMUL_SUM);
/// Integers of 16 bits are moved, not reduced.
constexpr uint64_t kDTypes = bit(C10D_UINT8) | bit(C10D_INT8) | bit(C10D_INT16) | bit(C10D_INT32) | bit(C10D_INT64) |
                             bit(C10D_FLOAT16) | bit(C10D_FLOAT32) | bit(C10D_FLOAT64) | bit(C10D_COMPLEX64) |
                             bit(C10D_COMPLEX128) | bit(C10D_BOOL) | bit(C10D_BFLOAT16) | bit(C10D_UINT16) |
                             bit(C10D_UINT32) | bit(C10D_UINT64);
constexpr uint64_t kFloat8 = bit(C10D_FLOAT8_E5M2) | bit(C10D_FLOAT8_E4M3FN);

void require(bool holds, const char* otherwise) {
  if (!holds) throw Failure(C10D_ERR_INVALID, otherwise);
}

/// Ops that work in place may have inputs too: then these are read, and the outputs written.
void check_inputs(const Op& op) {
  if (op.inputs.empty()) return;
  require(op.inputs.size() == op.outputs.size(), "takes an input for each output, or none");
  for (size_t i = 0; i < op.inputs.size(); i++) {
    require(op.inputs[i].bytes == op.outputs[i].bytes, "inputs must have the size of their output");
  }
}

}  // namespace

Capabilities capabilities_of(const Library& library) {
  Capabilities all;
  all.ops = kOps;
  if (library.has_registration()) all.services |= kRegistration;
  if (library.has_windows()) all.services |= kWindows;
  all.dtypes = kDTypes | (library.has_float8() ? kFloat8 : 0);
  all.reduce_ops = kReduceOps;
  return all;
}

void check_op(const Op& op, int version) {
  const auto& request = op.request;
  if (is_service(request.opcode)) return require(op.outputs.size() == 1, "takes one output");
  if ((kOps >> request.opcode & 1) == 0) throw Failure(C10D_ERR_UNSUPPORTED, "NCCL has no such op");
  if (request.opcode == C10D_OP_BARRIER && (request.flags & C10D_FLAG_MONITORED) != 0) {
    throw Failure(C10D_ERR_UNSUPPORTED, "NCCL has no monitored barrier");
  }
  switch (request.opcode) {
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_REDUCE:
      check_inputs(op);
      break;
    default:
      break;
  }
  if (is_reduction(request.opcode)) (void)reduced_type(request.dtype, request.reduce_op, version);
}

}  // namespace c10d::nccl_shim
