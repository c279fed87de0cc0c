#include "ops/op_parts.h"

#include <numeric>
#include <vector>

#include "ops/dtype.h"

namespace c10d {

namespace {

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

}  // namespace

bool is_all_to_all(const Op& op) {
  return op.request.opcode == C10D_OP_ALLTOALL || op.request.opcode == C10D_OP_ALLTOALL_BASE;
}

Part part_to(const Op& op, int other, int size) { return part_of(op, op.inputs, op.input_splits, other, size); }

Part part_from(const Op& op, int other, int size) { return part_of(op, op.outputs, op.output_splits, other, size); }

}  // namespace c10d
