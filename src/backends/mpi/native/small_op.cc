#include "small_op.h"

#include <cstring>
#include <numeric>
#include <vector>

#include "datatypes.h"
#include "reduction/reduction.h"

namespace c10d::mpi_shim {

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

/// Part `index` of each buffer, all parts of a buffer being of the same size.
size_t copy_slices(uint8_t* to, const std::vector<c10d_buffer>& buffers, int index, int size) {
  size_t bytes = 0;
  for (const auto& buffer : buffers) {
    const uint64_t part = buffer.bytes / static_cast<uint64_t>(size);
    bytes += copy(to + bytes, bytes_at(buffer.address) + part * static_cast<uint64_t>(index), part);
  }
  return bytes;
}

bool is_all_to_all(const Op& op) {
  return op.request.opcode == C10D_OP_ALLTOALL || op.request.opcode == C10D_OP_ALLTOALL_BASE;
}

Part part_of(const Op& op, const std::vector<c10d_buffer>& buffers, const std::vector<uint64_t>& splits, int other,
             int size) {
  if (!is_all_to_all(op)) return {};
  const auto index = static_cast<size_t>(other);
  if (op.request.opcode == C10D_OP_ALLTOALL) {
    return {reinterpret_cast<uint8_t*>(buffers[index].address), buffers[index].bytes};
  }
  auto* const whole = reinterpret_cast<uint8_t*>(buffers[0].address);
  if (splits.empty()) {
    const uint64_t bytes = buffers[0].bytes / static_cast<uint64_t>(size);
    return {whole + bytes * index, bytes};
  }
  const size_t element = element_size(op.request.dtype);
  const uint64_t before = std::accumulate(splits.begin(), splits.begin() + other, uint64_t{0});
  return {whole + before * element, splits[index] * element};
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

/// What is summed is multiplied before.
size_t scaled(const Op& op, uint8_t* data, size_t bytes) {
  const auto& request = op.request;
  if (request.reduce_op == C10D_PREMUL_SUM) {
    multiply(data, bytes / element_size(request.dtype), request.dtype, request.premul_factor);
  }
  return bytes;
}

/// In the order of the ranks, so that all of them get the same result.
void reduce_parts(const Op& op, int size, const std::function<uint8_t*(int)>& part) {
  const auto& request = op.request;
  uint64_t bytes = 0;
  for (const auto& output : op.outputs) bytes += output.bytes;
  const size_t elements = bytes / element_size(request.dtype);
  const Reduction reduce = reduction_of(request);
  uint8_t* const result = part(0);
  for (int rank = 1; rank < size; rank++) reduce(result, result, part(rank), elements);
  if (request.reduce_op == C10D_AVG) divide(result, elements, request.dtype, size);
  copy_to_all(op.outputs, result);
}

}  // namespace

Part part_to(const Op& op, int other, int size) { return part_of(op, op.inputs, op.input_splits, other, size); }

Part part_from(const Op& op, int other, int size) { return part_of(op, op.outputs, op.output_splits, other, size); }

bool is_small(const Op& op, int size) {
  if (is_all_to_all(op)) {
    // Ranks may differ, and each sends its part or does not: of every part, both sides must know that it comes.
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

}  // namespace c10d::mpi_shim
