#include "software_device/results.h"

#include <numeric>

#include "ops/dtype.h"
#include "reduction/reduction.h"

namespace c10d::softdev {

namespace {

Bytes part(const Bytes& all, size_t index, size_t parts) {
  const size_t size = all.size() / parts;
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(index * size);
  return {begin, begin + static_cast<std::ptrdiff_t>(size)};
}

/// What `flight` sends to a rank in an all-to-all of one buffer.
Bytes part_for(const Flight& flight, size_t to, size_t ranks) {
  const Bytes& all = flight.contribution[0];
  if (flight.input_splits.empty()) return part(all, to, ranks);
  const size_t element = element_size(flight.request.dtype);
  const auto& splits = flight.input_splits;
  const auto at = splits.begin() + static_cast<std::ptrdiff_t>(to);
  const uint64_t before = std::accumulate(splits.begin(), at, uint64_t{0}) * element;
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(before);
  return {begin, begin + static_cast<std::ptrdiff_t>(*at * element)};
}

Bytes reduced(const c10d_op& request, std::vector<Bytes> operands) {
  const size_t count = operands[0].size() / element_size(request.dtype);
  if (count == 0) return operands[0];
  const auto reduce = find_reduction(request.dtype, request.reduce_op);
  if (request.reduce_op == C10D_PREMUL_SUM) {
    for (auto& operand : operands) multiply(operand.data(), count, request.dtype, request.premul_factor);
  }
  for (size_t i = 1; i < operands.size(); i++) {
    reduce(operands[0].data(), operands[0].data(), operands[i].data(), count);
  }
  if (request.reduce_op == C10D_AVG) {
    divide(operands[0].data(), count, request.dtype, static_cast<int>(operands.size()));
  }
  return std::move(operands[0]);
}

Bytes joined(const std::vector<Bytes>& parts) {
  Bytes all;
  for (const auto& one : parts) all.insert(all.end(), one.begin(), one.end());
  return all;
}

uint64_t bytes_between(const Flight& flight, bool sent, size_t peer, size_t ranks) {
  const auto& buffers = sent ? flight.inputs : flight.outputs;
  if (flight.request.opcode == C10D_OP_ALLTOALL) return buffers[peer].bytes;
  const auto& splits = sent ? flight.input_splits : flight.output_splits;
  return splits.empty() ? buffers[0].bytes / ranks : splits[peer] * element_size(flight.request.dtype);
}

}  // namespace

bool is_in_place(uint32_t opcode) {
  return opcode == C10D_OP_BROADCAST || opcode == C10D_OP_ALLREDUCE || opcode == C10D_OP_ALLREDUCE_COALESCED ||
         opcode == C10D_OP_REDUCE;
}

bool can_reduce(uint32_t dtype, uint32_t reduce_op) {
  const bool of_floats =
      dtype == C10D_FLOAT16 || dtype == C10D_BFLOAT16 || dtype == C10D_FLOAT32 || dtype == C10D_FLOAT64;
  if (reduce_op == C10D_PREMUL_SUM) return of_floats;
  return find_reduction(dtype, reduce_op) != nullptr;
}

std::vector<Bytes> results_of(const Flight& flight, const std::vector<FlightPtr>& ranks) {
  const size_t n = ranks.size();
  const auto own = static_cast<size_t>(flight.rank);
  const auto root = static_cast<size_t>(flight.request.peer);
  const size_t items = flight.contribution.size();
  /// The same for every rank.
  const auto each = [&](auto take) {
    std::vector<Bytes> all;
    for (const auto& rank : ranks) all.push_back(take(*rank));
    return all;
  };
  std::vector<Bytes> results;
  switch (flight.request.opcode) {
    case C10D_OP_BROADCAST:
      return {ranks[root]->contribution[0]};
    case C10D_OP_SCATTER:
      return {ranks[root]->contribution[own]};
    case C10D_OP_REDUCE:
      if (own != root) return flight.contribution;
      [[fallthrough]];
    case C10D_OP_ALLREDUCE:
    case C10D_OP_ALLREDUCE_COALESCED:
      for (size_t i = 0; i < items; i++) {
        results.push_back(reduced(flight.request, each([&](const Flight& rank) { return rank.contribution[i]; })));
      }
      return results;
    case C10D_OP_GATHER:
      if (own != root) return {};
      [[fallthrough]];
    case C10D_OP_ALLGATHER:
      return each([](const Flight& rank) { return rank.contribution[0]; });
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
      for (size_t i = 0; i < items; i++) {
        results.push_back(joined(each([&](const Flight& rank) { return rank.contribution[i]; })));
      }
      return results;
    case C10D_OP_REDUCE_SCATTER:
      return {reduced(flight.request, each([&](const Flight& rank) { return rank.contribution[own]; }))};
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      for (size_t i = 0; i < items; i++) {
        results.push_back(
            reduced(flight.request, each([&](const Flight& rank) { return part(rank.contribution[i], own, n); })));
      }
      return results;
    case C10D_OP_ALLTOALL:
      return each([&](const Flight& rank) { return rank.contribution[own]; });
    case C10D_OP_ALLTOALL_BASE:
      return {joined(each([&](const Flight& rank) { return part_for(rank, own, n); }))};
    default:
      return {};
  }
}

std::optional<SplitMismatch> split_mismatch(const std::vector<FlightPtr>& ranks) {
  const uint32_t opcode = ranks[0]->request.opcode;
  if (opcode != C10D_OP_ALLTOALL && opcode != C10D_OP_ALLTOALL_BASE) return std::nullopt;
  const size_t n = ranks.size();
  for (size_t from = 0; from < n; from++) {
    for (size_t to = 0; to < n; to++) {
      const uint64_t sent = bytes_between(*ranks[from], true, to, n);
      const uint64_t expected = bytes_between(*ranks[to], false, from, n);
      if (sent != expected) return SplitMismatch{static_cast<int32_t>(from), static_cast<int32_t>(to), sent, expected};
    }
  }
  return std::nullopt;
}

}  // namespace c10d::softdev
