#include "op_check.h"

#include <algorithm>
#include <climits>
#include <string>
#include <vector>

#include "datatypes.h"
#include "ops/call_text.h"
#include "ops/failure.h"

namespace c10d::mpi_shim {

namespace {

[[noreturn]] void refuse(const std::string& why) { throw Failure(C10D_ERR_INVALID, why); }

/// Ops that are split into pieces if MPI cannot count all elements.
bool divisible(uint32_t opcode) {
  return opcode == C10D_OP_BROADCAST || opcode == C10D_OP_REDUCE || opcode == C10D_OP_ALLREDUCE ||
         opcode == C10D_OP_ALLREDUCE_COALESCED;
}

/// Checks the number of elements in one native call. For a gather or scatter, every rank checks the number of the root:
/// if only the root refused the op, the others would begin it.
void check_count(const Op& op, uint64_t world_size, size_t element_bytes) {
  const uint32_t opcode = op.request.opcode;
  const auto check = [&](const std::vector<c10d_buffer>& buffers, uint64_t times) {
    uint64_t count = 0;
    for (const auto& buffer : buffers) count += std::min<uint64_t>(buffer.bytes / element_bytes, uint64_t{1} << 40);
    if (count <= INT_MAX / times) return;
    refuse("MPI counts elements up to " + std::to_string(INT_MAX) + ", all ranks' parts together; these are " +
           std::to_string(count * times) + ": split the op");
  };
  if (opcode != C10D_OP_SCATTER) check(op.inputs, opcode == C10D_OP_GATHER ? world_size : 1);
  if (opcode != C10D_OP_GATHER) check(op.outputs, opcode == C10D_OP_SCATTER ? world_size : 1);
}

bool is_implemented(uint32_t opcode) {
  return is_common_collective(opcode) || opcode == C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED;
}

}  // namespace

void check_collective(const Op& op, int world_size) {
  const auto& request = op.request;
  if (!is_implemented(request.opcode)) throw Failure(C10D_ERR_UNSUPPORTED, "mpi does not implement this op");
  if (request.opcode == C10D_OP_BARRIER) return;
  if (is_reduction(request.opcode) && !can_reduce(request.dtype, request.reduce_op)) {
    throw Failure(C10D_ERR_UNSUPPORTED, "mpi does not have this reduction for the dtype");
  }
  if (!divisible(request.opcode)) {
    check_count(op, static_cast<uint64_t>(world_size), element_size(request.dtype));
  }
}

void check_message(const Op& op, int first_own_tag) {
  const auto& request = op.request;
  const size_t size = element_size(request.dtype);
  const uint64_t bytes = (request.opcode == C10D_OP_SEND ? op.inputs[0] : op.outputs[0]).bytes;
  if (bytes / size > INT_MAX) {
    throw Failure(C10D_ERR_INVALID, "MPI counts elements up to " + std::to_string(INT_MAX) + ", these are " +
                                        std::to_string(bytes / size) + ": send them as several messages");
  }
  if (request.tag >= static_cast<uint32_t>(first_own_tag)) {
    throw Failure(C10D_ERR_INVALID, "tag " + std::to_string(request.tag) + " is too large: this MPI has tags up to " +
                                        std::to_string(first_own_tag - 1));
  }
}

}  // namespace c10d::mpi_shim
