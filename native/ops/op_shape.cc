#include "ops/op_shape.h"

#include <algorithm>
#include <vector>

#include "ops/call_text.h"
#include "ops/checked_size.h"
#include "ops/dtype.h"
#include "ops/failure.h"

namespace c10d {

namespace {

using Buffers = std::vector<c10d_buffer>;

void require(bool holds, const char* otherwise) {
  if (!holds) throw Failure(C10D_ERR_INVALID, otherwise);
}

bool all_have(const Buffers& buffers, uint64_t bytes) {
  return std::all_of(buffers.begin(), buffers.end(), [&](const auto& buffer) { return buffer.bytes == bytes; });
}

/// Whether there are as many larger ones as smaller ones, each `n` times its counterpart.
bool fit_in_pairs(const Buffers& larger, const Buffers& smaller, size_t n) {
  if (larger.empty() || larger.size() != smaller.size()) return false;
  for (size_t i = 0; i < larger.size(); i++) {
    if (checked_product(smaller[i].bytes, n) != larger[i].bytes) return false;
  }
  return true;
}

void check_sparse(const Op& op, size_t own, size_t n) {
  const auto& in = op.inputs;
  const auto& out = op.outputs;
  if (!is_second_half(op)) {
    require(in.size() == 1 && out.size() == 1, "takes one input and one output");
    return require(fit_in_pairs(out, in, n), "output must be world size times the input");
  }
  const CheckedSize total = checked_sum(op.input_splits);
  require(out.size() == 2 && op.input_splits.size() == n && total && *total > 0,
          "takes the number of entries of each rank");
  for (size_t i = 0; i < in.size(); i++) {
    require(out[i].bytes % *total == 0 && in[i].bytes == out[i].bytes / *total * op.input_splits[own],
            "buffers must have the size of their entries");
  }
}

}  // namespace

bool is_second_half(const Op& op) { return op.request.opcode == C10D_OP_ALLREDUCE_SPARSE && op.inputs.size() == 2; }

uint64_t entries(const Op& op) { return checked_sum(op.input_splits).value_or(0); }

void check_shape(const Op& op, int rank, int world_size) {
  const auto& in = op.inputs;
  const auto& out = op.outputs;
  const auto own = static_cast<size_t>(rank);
  const auto n = static_cast<size_t>(world_size);
  const bool at_root = op.request.peer == rank;
  if (is_rooted(op.request.opcode)) require(op.request.peer >= 0 && op.request.peer < world_size, "no such root");
  switch (op.request.opcode) {
    case C10D_OP_BROADCAST:
    case C10D_OP_ALLREDUCE:
    case C10D_OP_REDUCE:
      return require(out.size() == 1, "takes one buffer");
    case C10D_OP_ALLREDUCE_COALESCED:
      return require(!out.empty(), "takes at least one buffer");
    case C10D_OP_ALLGATHER:
      require(in.size() == 1 && out.size() == n, "takes one input and an output per rank");
      return require(all_have(out, in[0].bytes), "outputs must have the size of the input");
    case C10D_OP_ALLGATHER_BASE:
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      return require(fit_in_pairs(out, in, n), "output must be world size times the input");
    case C10D_OP_ALLGATHER_COALESCED:
      require(!in.empty() && in.size() == out.size(), "takes as many outputs as inputs");
      return require(fit_in_pairs(out, in, n), "outputs must be world size times their input");
    case C10D_OP_ALLREDUCE_SPARSE:
      return check_sparse(op, own, n);
    case C10D_OP_GATHER:
      require(in.size() == 1 && out.size() == (at_root ? n : 0), "takes one input, and at the root an output per rank");
      return require(all_have(out, in[0].bytes), "outputs must have the size of the input");
    case C10D_OP_SCATTER:
      require(out.size() == 1 && in.size() == (at_root ? n : 0), "takes one output, and at the root an input per rank");
      return require(all_have(in, out[0].bytes), "inputs must have the size of the output");
    case C10D_OP_REDUCE_SCATTER:
      require(out.size() == 1 && in.size() == n, "takes one output and an input per rank");
      return require(in[own].bytes == out[0].bytes, "output must have the size of its input");
    case C10D_OP_REDUCE_SCATTER_BASE:
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      return require(fit_in_pairs(in, out, n), "input must be world size times the output");
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      require(!in.empty() && in.size() == out.size(), "takes as many outputs as inputs");
      return require(fit_in_pairs(in, out, n), "inputs must be world size times their output");
    case C10D_OP_ALLTOALL:
      require(in.size() == n && out.size() == n, "takes an input and an output per rank");
      return require(in[own].bytes == out[own].bytes, "what a rank sends itself must fit what it expects");
    case C10D_OP_ALLTOALL_BASE: {
      require(in.size() == 1 && out.size() == 1, "takes one input and one output");
      const size_t size = element_size(op.request.dtype);
      if (op.input_splits.empty() && op.output_splits.empty()) {
        return require(in[0].bytes == out[0].bytes && size > 0 && in[0].bytes % (n * size) == 0,
                       "input and output must have the same size, divisible by the world size");
      }
      require(splits_fit(op.input_splits, n, size, in[0]) && splits_fit(op.output_splits, n, size, out[0]),
              "splits must be one per rank and add up to the buffer");
      return require(op.input_splits[own] == op.output_splits[own],
                     "what a rank sends itself must fit what it expects");
    }
    case C10D_OP_SEND:
      return require(in.size() == 1, "takes one buffer");
    case C10D_OP_RECV:
    case C10D_OP_RECV_ANY_SOURCE:
      return require(out.size() == 1, "takes one buffer");
    default:
      return;
  }
}

}  // namespace c10d
