#include "collective_check.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "engine/failure.h"
#include "reduction/reduction.h"

namespace c10d::gloo_shim {

namespace {

[[noreturn]] void refuse(const std::string& why) { throw Failure(C10D_ERR_INVALID, why); }

void require(bool holds, const char* otherwise) {
  if (!holds) refuse(otherwise);
}

/// What must hold for the numbers and sizes of the buffers, so that no rank sends or expects the wrong number of bytes.
void check_buffers(const Op& op, int rank, size_t n) {
  const auto& in = op.inputs;
  const auto& out = op.outputs;
  const auto own = static_cast<size_t>(rank);
  const bool at_root = op.request.peer == rank;
  const auto all_like = [](const std::vector<c10d_buffer>& buffers, uint64_t bytes) {
    return std::all_of(buffers.begin(), buffers.end(), [&](const auto& buffer) { return buffer.bytes == bytes; });
  };
  switch (op.request.opcode) {
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_REDUCE:
      return require(out.size() == 1, "takes one buffer");
    case C10D_OP_ALLREDUCE_COALESCED:
      return require(!out.empty(), "takes at least one buffer");
    case C10D_OP_ALLGATHER:
      require(in.size() == 1 && out.size() == n, "takes one input and an output per rank");
      return require(all_like(out, in[0].bytes), "outputs must have the size of the input");
    case C10D_OP_ALLGATHER_BASE:
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      return require(out[0].bytes == in[0].bytes * n, "output must be world size times the input");
    case C10D_OP_ALLGATHER_COALESCED:
      require(!in.empty() && in.size() == out.size(), "takes as many outputs as inputs");
      for (size_t i = 0; i < in.size(); i++) {
        require(out[i].bytes == in[i].bytes * n, "outputs must be world size times their input");
      }
      return;
    case C10D_OP_ALLREDUCE_SPARSE: {
      if (!is_second_half(op)) {
        require(in.size() == 1 && out.size() == 1, "takes one input and one output");
        return require(out[0].bytes == in[0].bytes * n, "output must be world size times the input");
      }
      const uint64_t total = entries(op);
      require(out.size() == 2 && op.input_splits.size() == n && total > 0, "takes the number of entries of each rank");
      for (size_t i = 0; i < in.size(); i++) {
        require(out[i].bytes % total == 0 && in[i].bytes == out[i].bytes / total * op.input_splits[own],
                "buffers must have the size of their entries");
      }
      return;
    }
    case C10D_OP_GATHER:
      require(in.size() == 1 && out.size() == (at_root ? n : 0), "takes one input, and at the root an output per rank");
      return require(all_like(out, in[0].bytes), "outputs must have the size of the input");
    case C10D_OP_SCATTER:
      require(out.size() == 1 && in.size() == (at_root ? n : 0), "takes one output, and at the root an input per rank");
      return require(all_like(in, out[0].bytes), "inputs must have the size of the output");
    case C10D_OP_REDUCE_SCATTER:
      require(out.size() == 1 && in.size() == n, "takes one output and an input per rank");
      return require(in[own].bytes == out[0].bytes, "output must have the size of its input");
    case C10D_OP_REDUCE_SCATTER_BASE:
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      return require(in[0].bytes == out[0].bytes * n, "input must be world size times the output");
    case C10D_OP_ALLTOALL:
      require(in.size() == n && out.size() == n, "takes an input and an output per rank");
      return require(in[own].bytes == out[own].bytes, "what a rank sends itself must fit what it expects");
    case C10D_OP_ALLTOALL_BASE: {
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      const size_t size = element_size(op.request.dtype);
      const auto fits = [&](const std::vector<uint64_t>& splits, uint64_t bytes) {
        return splits.size() == n && std::accumulate(splits.begin(), splits.end(), uint64_t{0}) * size == bytes;
      };
      if (op.input_splits.empty() && op.output_splits.empty()) {
        return require(in[0].bytes == out[0].bytes && in[0].bytes % (n * size) == 0,
                       "input and output must have the same size, divisible by the world size");
      }
      require(fits(op.input_splits, in[0].bytes) && fits(op.output_splits, out[0].bytes),
              "splits must be one per rank and add up to the buffer");
      return require(op.input_splits[own] == op.output_splits[own],
                     "what a rank sends itself must fit what it expects");
    }
    default:
      return;
  }
}

bool reduces(uint32_t opcode) {
  switch (opcode) {
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_REDUCE:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
      return true;
    default:
      return false;
  }
}

bool has_root(uint32_t opcode) {
  return opcode == C10D_OP_BROADCAST || opcode == C10D_OP_REDUCE || opcode == C10D_OP_GATHER ||
         opcode == C10D_OP_SCATTER;
}

bool is_collective(uint32_t opcode) {
  return reduces(opcode) || has_root(opcode) || opcode == C10D_OP_ALLGATHER || opcode == C10D_OP_ALLGATHER_BASE ||
         opcode == C10D_OP_ALLGATHER_COALESCED || opcode == C10D_OP_ALLREDUCE_SPARSE || opcode == C10D_OP_ALLTOALL ||
         opcode == C10D_OP_ALLTOALL_BASE || opcode == C10D_OP_BARRIER;
}

}  // namespace

bool is_second_half(const Op& op) { return op.request.opcode == C10D_OP_ALLREDUCE_SPARSE && op.inputs.size() == 2; }

uint64_t entries(const Op& op) { return std::accumulate(op.input_splits.begin(), op.input_splits.end(), uint64_t{0}); }

void check_collective(const Op& op, int rank, int world_size) {
  const auto& request = op.request;
  if (!is_collective(request.opcode)) throw Failure(C10D_ERR_UNSUPPORTED, "gloo does not implement this op");
  if (request.opcode == C10D_OP_BARRIER) return;
  const size_t size = element_size(request.dtype);
  if (size == 0) throw Failure(C10D_ERR_UNSUPPORTED, "unknown dtype");
  if (reduces(request.opcode) &&
      (request.reduce_op == C10D_PREMUL_SUM || find_reduction(request.dtype, request.reduce_op) == nullptr)) {
    throw Failure(C10D_ERR_UNSUPPORTED, "gloo has no such reduction for this dtype");
  }
  if (has_root(request.opcode)) require(request.peer >= 0 && request.peer < world_size, "no such root");
  for (const auto* buffers : {&op.inputs, &op.outputs}) {
    for (const auto& buffer : *buffers) require(buffer.bytes % size == 0, "buffer is no whole number of elements");
  }
  check_buffers(op, rank, static_cast<size_t>(world_size));
}

uint32_t tags_of(const Op& op) {
  if (is_second_half(op)) return 0;
  if (op.request.opcode == C10D_OP_REDUCE_SCATTER) return static_cast<uint32_t>(op.inputs.size());
  return (op.request.flags & C10D_FLAG_MONITORED) != 0 ? 2 : 1;
}

}  // namespace c10d::gloo_shim
