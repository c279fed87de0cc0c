#include "reduction/small_op.h"

#include <cstring>
#include <vector>

#include "ops/call_text.h"
#include "ops/dtype.h"
#include "ops/op_parts.h"
#include "reduction/reduction.h"

namespace c10d {

namespace {

const uint8_t* bytes_at(uint64_t address) { return reinterpret_cast<const uint8_t*>(address); }

size_t copy(uint8_t* to, const uint8_t* from, uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return bytes;
}

size_t copy_all(uint8_t* to, const std::vector<c10d_buffer>& buffers) {
  size_t bytes = 0;
  for (const auto& buffer : buffers) bytes += copy(to + bytes, bytes_at(buffer.address), buffer.bytes);
  return bytes;
}

/// Part `index` of each buffer; all parts of a buffer have the same size.
size_t copy_slices(uint8_t* to, const std::vector<c10d_buffer>& buffers, int index, int size) {
  size_t bytes = 0;
  for (const auto& buffer : buffers) {
    const uint64_t part = buffer.bytes / static_cast<uint64_t>(size);
    bytes += copy(to + bytes, bytes_at(buffer.address) + part * static_cast<uint64_t>(index), part);
  }
  return bytes;
}

void copy_to_all(const std::vector<c10d_buffer>& buffers, const uint8_t* from) {
  for (const auto& buffer : buffers) from += copy(reinterpret_cast<uint8_t*>(buffer.address), from, buffer.bytes);
}

void copy_to_slices(const std::vector<c10d_buffer>& buffers, int index, int size, const uint8_t* from) {
  for (const auto& buffer : buffers) {
    const uint64_t part = buffer.bytes / static_cast<uint64_t>(size);
    from += copy(reinterpret_cast<uint8_t*>(buffer.address) + part * static_cast<uint64_t>(index), from, part);
  }
}

/// For PREMUL_SUM, multiplies the data first.
size_t scaled(const Op& op, uint8_t* data, size_t bytes) {
  const auto& request = op.request;
  if (request.reduce_op == C10D_PREMUL_SUM) {
    multiply(data, bytes / element_size(request.dtype), request.dtype, request.premul_factor);
  }
  return bytes;
}

/// In the order of the ranks, so that all ranks get the same result.
void reduce_parts(const Op& op, int size, const std::function<uint8_t*(int)>& part) {
  const auto& request = op.request;
  uint64_t bytes = 0;
  for (const auto& output : op.outputs) bytes += output.bytes;
  const size_t elements = bytes / element_size(request.dtype);
  const bool multiplied = request.reduce_op == C10D_PREMUL_SUM;
  const Reduction reduce = find_reduction(request.dtype, multiplied ? uint32_t{C10D_SUM} : request.reduce_op);
  uint8_t* const result = part(0);
  for (int rank = 1; rank < size; rank++) reduce(result, result, part(rank), elements);
  if (request.reduce_op == C10D_AVG) divide(result, elements, request.dtype, size);
  copy_to_all(op.outputs, result);
}

}  // namespace

bool is_small(const Op& op, int size) {
  if (is_all_to_all(op)) {
    // Sizes may differ between ranks: for every part, sender and receiver must decide alike.
    for (int rank = 0; rank < size; rank++) {
      if (part_to(op, rank, size).bytes > kMostCarried || part_from(op, rank, size).bytes > kMostCarried) return false;
    }
    return true;
  }
  const bool takes_output = op.inputs.empty() || op.request.opcode == C10D_OP_SCATTER;
  uint64_t left = kMostCarried;
  for (const auto& buffer : takes_output ? op.outputs : op.inputs) {
    if (buffer.bytes > left) return false;
    left -= buffer.bytes;
  }
  return true;
}

size_t copy_part(const Op& op, int rank, int to, int size, uint8_t* at) {
  const int root = op.request.peer;
  switch (op.request.opcode) {
    case C10D_OP_BROADCAST:
      return rank == root ? copy_all(at, op.outputs) : 0;
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
      return scaled(op, at, copy_all(at, op.outputs));
    case C10D_OP_REDUCE:
      return to == root ? scaled(op, at, copy_all(at, op.outputs)) : 0;
    case C10D_OP_ALLGATHER:
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
      return copy_all(at, op.inputs);
    case C10D_OP_GATHER:
      return to == root ? copy_all(at, op.inputs) : 0;
    case C10D_OP_SCATTER:
      return rank == root ? copy_all(at, {op.inputs[static_cast<size_t>(to)]}) : 0;
    case C10D_OP_REDUCE_SCATTER:
      return scaled(op, at, copy_all(at, {op.inputs[static_cast<size_t>(to)]}));
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      return scaled(op, at, copy_slices(at, op.inputs, to, size));
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE: {
      const Part part = part_to(op, to, size);
      return copy(at, part.data, part.bytes);
    }
    default:
      return 0;
  }
}

namespace {

/// Whether each rank receives a different part of what a rank has.
bool has_part_for_each(const Op& op) {
  switch (op.request.opcode) {
    case C10D_OP_SCATTER:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      return true;
    default:
      return is_all_to_all(op);
  }
}

uint64_t total(const std::vector<c10d_buffer>& buffers) {
  uint64_t bytes = 0;
  for (const auto& buffer : buffers) bytes += buffer.bytes;
  return bytes;
}

}  // namespace

uint64_t bytes_for_all(const Op& op, int size) {
  if (op.request.opcode == C10D_OP_BARRIER) return 0;
  // Ranks other than the root only know the size of their own part.
  if (op.request.opcode == C10D_OP_SCATTER) return op.outputs[0].bytes * static_cast<uint64_t>(size);
  return total(op.inputs.empty() ? op.outputs : op.inputs);
}

void copy_for_all(const Op& op, int rank, int size, uint8_t* at) {
  // What only the root needs is sent to all.
  if (!has_part_for_each(op)) {
    copy_part(op, rank, is_rooted(op.request.opcode) ? op.request.peer : 0, size, at);
    return;
  }
  for (int to = 0; to < size; to++) at += copy_part(op, rank, to, size, at);
}

uint64_t offset_of_part(const Op& op, int to, int size) {
  const auto before = static_cast<uint64_t>(to);
  switch (op.request.opcode) {
    case C10D_OP_SCATTER:
      return op.outputs[0].bytes * before;
    case C10D_OP_REDUCE_SCATTER: {
      uint64_t bytes = 0;
      for (int i = 0; i < to; i++) bytes += op.inputs[static_cast<size_t>(i)].bytes;
      return bytes;
    }
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      return total(op.inputs) / static_cast<uint64_t>(size) * before;
    default:
      return 0;
  }
}

void finish_small(const Op& op, int rank, int size, const std::function<uint8_t*(int)>& part) {
  const int root = op.request.peer;
  switch (op.request.opcode) {
    case C10D_OP_BROADCAST:
      if (rank != root) copy_to_all(op.outputs, part(root));
      return;
    case C10D_OP_SCATTER:
      return copy_to_all(op.outputs, part(root));
    case C10D_OP_REDUCE:
      if (rank == root) reduce_parts(op, size, part);
      return;
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
    case C10D_OP_REDUCE_SCATTER:
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      return reduce_parts(op, size, part);
    case C10D_OP_ALLGATHER:
      for (int i = 0; i < size; i++) copy_to_all({op.outputs[static_cast<size_t>(i)]}, part(i));
      return;
    case C10D_OP_GATHER:
      for (int i = 0; i < size && rank == root; i++) copy_to_all({op.outputs[static_cast<size_t>(i)]}, part(i));
      return;
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
      for (int i = 0; i < size; i++) copy_to_slices(op.outputs, i, size, part(i));
      return;
    case C10D_OP_ALLTOALL:
    case C10D_OP_ALLTOALL_BASE:
      for (int i = 0; i < size; i++) {
        const Part to = part_from(op, i, size);
        copy(to.data, part(i), to.bytes);
      }
      return;
    default:
      return;
  }
}

}  // namespace c10d
