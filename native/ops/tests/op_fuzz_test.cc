// Op records with any numbers: Op::assign() refuses impossible ones, check_shape() those that go beyond the buffers.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "ops/dtype.h"
#include "ops/failure.h"
#include "ops/names.generated.h"
#include "ops/op_shape.h"
#include "ops/sized_struct.h"
#include "tests/random_record.h"

using namespace c10d;
using namespace c10d::test;

namespace {

using Wide = unsigned __int128;

Wide sum(const std::vector<uint64_t>& numbers) {
  Wide total = 0;
  for (const uint64_t number : numbers) total += number;
  return total;
}

Wide sum(const std::vector<c10d_buffer>& buffers) {
  Wide total = 0;
  for (const auto& buffer : buffers) total += buffer.bytes;
  return total;
}

/// What is wrong with an op that was accepted, computed in 128 bits; empty if nothing.
std::string fault_of(const Op& op, int world_size, const Device& device) {
  const auto& request = op.request;
  if (request.device_type != device.type || request.device_index != device.index) return "device";
  if (request.stream != 0 && (request.flags & C10D_FLAG_STREAM) == 0) return "stream";
  if (request.reserved != 0 || request.flags > 15) return "unknown bits";
  if (request.opcode > kHighestOpcode && !is_service(request.opcode)) return "opcode";
  const Wide n = static_cast<Wide>(world_size);
  const Wide element = element_size(op.request.dtype);
  if (element == 0) return "dtype";
  for (const auto* buffers : {&op.inputs, &op.outputs}) {
    if (sum(*buffers) > PTRDIFF_MAX) return "total";
    for (const auto& buffer : *buffers) {
      if (buffer.bytes % element != 0) return "part of an element";
      if (buffer.bytes > 0 && buffer.address == 0) return "NULL";
      if (Wide{buffer.address} + buffer.bytes > UINT64_MAX) return "end of memory";
    }
  }
  const auto& in = op.inputs;
  const auto& out = op.outputs;
  switch (op.request.opcode) {
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
      return Wide{in[0].bytes} * n == out[0].bytes ? "" : "all-gather";
    case C10D_OP_ALLGATHER:
      return Wide{in[0].bytes} * n == sum(out) ? "" : "all-gather of a list";
    case C10D_OP_REDUCE_SCATTER_BASE:
      return Wide{out[0].bytes} * n == in[0].bytes ? "" : "reduce-scatter";
    case C10D_OP_ALLTOALL_BASE:
      if (op.input_splits.empty() && op.output_splits.empty()) return in[0].bytes == out[0].bytes ? "" : "all-to-all";
      if (op.input_splits.size() != n || op.output_splits.size() != n) return "number of splits";
      if (sum(op.input_splits) * element != in[0].bytes) return "input splits";
      return sum(op.output_splits) * element == out[0].bytes ? "" : "output splits";
    case C10D_OP_BROADCAST:
    case C10D_OP_REDUCE:
    case C10D_OP_GATHER:
    case C10D_OP_SCATTER:
      return op.request.peer >= 0 && op.request.peer < world_size ? "" : "root";
    default:
      return "";
  }
}

}  // namespace

TEST_CASE("whatever the numbers of an op are, it is refused if it goes beyond its buffers") {
  const uint64_t seed = fuzz_seed();
  MESSAGE("C10D_FUZZ_SEED=" << seed);
  std::mt19937_64 random(seed);
  size_t accepted = 0;
  size_t refused = 0;
  size_t others = 0;
  const auto end = deadline_after(1'000 * fuzz_seconds());
  do {
    const int world_size = 1 + static_cast<int>(random() % 5);
    const int rank = static_cast<int>(random() % static_cast<uint64_t>(world_size));
    const Device device = random() % 2 == 0 ? Device{} : Device{C10D_DEVICE_CUDA, static_cast<int32_t>(random() % 3)};
    RandomRecord record(random, rank, world_size, false, device);
    Op op;
    try {
      claimed_size(&record.op(), "c10d_op");
      op.assign(record.op(), nullptr, nullptr, rank, world_size, device);
      check_shape(op, rank, world_size);
    } catch (const Failure& failure) {
      refused++;
      CHECK(failure.harmless());
      continue;
    }
    accepted++;
    others += record.op().size == sizeof op.request ? 0 : 1;
    const std::string fault = fault_of(op, world_size, device);
    CHECK_FALSE(record.has_unknown());
    CHECK(std::memcmp(&op.request, &record.meaning(), sizeof op.request) == 0);
    CAPTURE(op.request.opcode);
    CAPTURE(world_size);
    if (!fault.empty()) FAIL(fault);
  } while (Clock::now() < end);
  CHECK(accepted > 100);
  CHECK(refused > 100);
  // Shorter or longer records among those that were accepted.
  CHECK(others > 10);
}
