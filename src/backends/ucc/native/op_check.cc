#include "op_check.h"

#include <algorithm>

#include "element_types.h"
#include "engine/checked_size.h"
#include "engine/failure.h"
#include "reduction/reduction.h"

namespace c10d::ucc_shim {

namespace {

/// UCX keeps 15 bits of a message's tag, of which UCC has the last 8 numbers for itself; the first bit tells the two parts of
/// a message apart.
constexpr uint32_t kLargestTag = (1U << 14) - 9;

void demand(bool holds, const char* otherwise) {
  if (!holds) throw Failure(C10D_ERR_INVALID, otherwise);
}

bool all_have(const std::vector<c10d_buffer>& buffers, uint64_t bytes) {
  return std::all_of(buffers.begin(), buffers.end(), [&](const auto& buffer) { return buffer.bytes == bytes; });
}

void check_splits(const std::vector<uint64_t>& splits, const c10d_buffer& buffer, size_t n, uint32_t dtype) {
  demand(splits_fit(splits, n, element_size(dtype), buffer), "splits must be one per rank and add up to the buffer");
}

}  // namespace

bool scatters_reduced(uint32_t opcode) {
  return opcode == C10D_OP_REDUCE_SCATTER || opcode == C10D_OP_REDUCE_SCATTER_BASE ||
         opcode == C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED;
}

bool reduces(uint32_t opcode) {
  return opcode == C10D_OP_ALLREDUCE || opcode == C10D_OP_ALLREDUCE_COALESCED || opcode == C10D_OP_REDUCE ||
         scatters_reduced(opcode);
}

void check_op(const Op& op, int rank, int world_size) {
  const auto& in = op.inputs;
  const auto& out = op.outputs;
  const auto n = static_cast<size_t>(world_size);
  const auto& request = op.request;
  const bool at_root = request.peer == rank;
  const auto peer_exists = [&] { return request.peer >= 0 && request.peer < world_size; };
  switch (request.opcode) {
    case C10D_OP_BROADCAST:
    case C10D_OP_REDUCE:
      demand(peer_exists(), "the root is no rank of the group");
      [[fallthrough]];
    case C10D_OP_ALLREDUCE:
      demand(out.size() == 1, "takes one buffer");
      break;
    case C10D_OP_ALLREDUCE_COALESCED:
      demand(!out.empty(), "takes at least one buffer");
      break;
    case C10D_OP_ALLGATHER:
      demand(in.size() == 1 && out.size() == n, "takes one input and an output per rank");
      demand(all_have(out, in[0].bytes), "outputs must have the size of the input");
      break;
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
      demand(!in.empty() && in.size() == out.size(), "takes as many outputs as inputs");
      for (size_t i = 0; i < in.size(); i++) {
        demand(checked_product(in[i].bytes, n) == out[i].bytes, "an output must be world size times its input");
      }
      break;
    case C10D_OP_GATHER:
      demand(peer_exists(), "the root is no rank of the group");
      demand(in.size() == 1 && out.size() == (at_root ? n : 0), "takes one input, and at the root an output per rank");
      demand(all_have(out, in[0].bytes), "outputs must have the size of the input");
      break;
    case C10D_OP_SCATTER:
      demand(peer_exists(), "the root is no rank of the group");
      demand(out.size() == 1 && in.size() == (at_root ? n : 0), "takes one output, and at the root an input per rank");
      demand(all_have(in, out[0].bytes), "inputs must have the size of the output");
      break;
    case C10D_OP_REDUCE_SCATTER:
      demand(out.size() == 1 && in.size() == n, "takes one output and an input per rank");
      demand(in[static_cast<size_t>(rank)].bytes == out[0].bytes, "the output must have the size of its input");
      break;
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      demand(!in.empty() && in.size() == out.size(), "takes as many outputs as inputs");
      for (size_t i = 0; i < in.size(); i++) {
        demand(checked_product(out[i].bytes, n) == in[i].bytes, "an input must be world size times its output");
      }
      break;
    case C10D_OP_ALLTOALL:
      demand(in.size() == n && out.size() == n, "takes an input and an output per rank");
      break;
    case C10D_OP_ALLTOALL_BASE:
      demand(in.size() == 1 && out.size() == 1, "takes one input and one output");
      if (op.input_splits.empty() && op.output_splits.empty()) {
        demand(in[0].bytes == out[0].bytes && in[0].bytes % n == 0,
               "input and output must have the same size, divisible by the world size");
      } else {
        check_splits(op.input_splits, in[0], n, request.dtype);
        check_splits(op.output_splits, out[0], n, request.dtype);
      }
      break;
    case C10D_OP_SEND:
    case C10D_OP_RECV:
      demand(peer_exists() && !at_root, "takes another rank of the group");
      demand((request.opcode == C10D_OP_SEND ? in : out).size() == 1, "takes one buffer");
      demand(request.tag <= kLargestTag, "UCC has tags up to 16375");
      break;
    case C10D_OP_BARRIER:
      if ((request.flags & C10D_FLAG_MONITORED) == 0) break;
      throw Failure(C10D_ERR_UNSUPPORTED, "UCC has no monitored barrier");
    default:
      throw Failure(C10D_ERR_UNSUPPORTED, "UCC has no such op");
  }
  if (!reduces(request.opcode)) return;
  (void)reduction(request.dtype, request.reduce_op);
  const size_t bytes = element_type(request.dtype, request.reduce_op).bytes;
  for (const auto* buffers : {&in, &out}) {
    for (const auto& buffer : *buffers) demand(buffer.bytes % bytes == 0, "a buffer must hold whole elements");
  }
}

}  // namespace c10d::ucc_shim
