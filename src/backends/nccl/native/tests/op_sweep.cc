#include "op_sweep.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "element_values.h"
#include "ops/call_text.h"
#include "ops/dtype.h"
#include "ops/names.generated.h"

namespace c10d::test {

namespace {

using Numbers = std::vector<double>;
using Layout = SweepCase::Layout;

constexpr double kFactor = 0.5;

/// What one rank passes and gets.
struct Side {
  std::vector<Numbers> inputs;
  std::vector<Numbers> outputs;
  std::vector<Numbers> expected;
  std::vector<uint64_t> input_splits;
  std::vector<uint64_t> output_splits;
};

class Plan {
 public:
  Plan(const SweepCase& one, int32_t ranks) : one_(one), ranks_(static_cast<size_t>(ranks)), sides_(ranks_) { make(); }
  const std::vector<Side>& sides() const { return sides_; }

 private:
  /// Elements that `rank` has in buffer `i`; small, so that results are exact in all dtypes.
  Numbers values(size_t rank, size_t i, size_t count) const {
    Numbers all;
    for (size_t k = 0; k < count * numbers_per_element(one_.dtype); k++) {
      const size_t mixed = rank * 7 + i * 3 + k;
      const bool small = one_.reduce_op == C10D_PRODUCT || one_.dtype == C10D_BOOL;
      all.push_back(
          static_cast<double>(small ? (mixed + k / 3) % 2 + (one_.dtype == C10D_BOOL ? 0 : 1) : 1 + mixed % 5));
    }
    return all;
  }

  Numbers reduced(size_t i, size_t count) const {
    Numbers all = values(0, i, count);
    for (size_t k = 0; k < all.size(); k++) {
      double result = 0;
      for (size_t rank = 0; rank < ranks_; rank++) result = combined(rank, result, values(rank, i, count)[k]);
      if (one_.reduce_op == C10D_AVG) result = divided(result);
      all[k] = result;
    }
    return all;
  }

  double combined(size_t rank, double sum, double value) const {
    if (one_.reduce_op == C10D_PREMUL_SUM) value *= kFactor;
    if (rank == 0) return value;
    switch (one_.reduce_op) {
      case C10D_PRODUCT:
        return sum * value;
      case C10D_MIN:
        return std::min(sum, value);
      case C10D_MAX:
        return std::max(sum, value);
      default:
        return one_.dtype == C10D_BOOL ? std::max(sum, value) : sum + value;
    }
  }

  double divided(double sum) const {
    const double n = static_cast<double>(ranks_);
    const bool integer = one_.dtype <= C10D_INT64 || one_.dtype >= C10D_UINT16;
    return integer ? static_cast<double>(static_cast<int64_t>(sum) / static_cast<int64_t>(ranks_)) : sum / n;
  }

  static Numbers part(const Numbers& all, size_t index, size_t parts) {
    const size_t size = all.size() / parts;
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(index * size);
    return {begin, begin + static_cast<std::ptrdiff_t>(size)};
  }
  static void append(Numbers& to, const Numbers& more) { to.insert(to.end(), more.begin(), more.end()); }
  Numbers nothing(size_t count) const { return Numbers(count * numbers_per_element(one_.dtype), 0); }

  /// Elements that one rank sends to another.
  size_t sent(size_t from, size_t to) const { return one_.layout == Layout::uneven ? (from * 2 + to) % 3 : one_.count; }
  size_t part_size(size_t rank) const { return one_.layout == Layout::uneven ? one_.count + rank : one_.count; }

  void make();
  void make_in_place(size_t rank, size_t items);
  void make_all_to_all(size_t rank, bool base);

  const SweepCase& one_;
  const size_t ranks_;
  std::vector<Side> sides_;
};

void Plan::make_in_place(size_t rank, size_t items) {
  Side& side = sides_[rank];
  const auto root = static_cast<size_t>(one_.root);
  for (size_t i = 0; i < items; i++) {
    const Numbers own = values(rank, i, one_.count + i);
    const bool apart = one_.layout == Layout::out_of_place;
    if (apart) side.inputs.push_back(own);
    side.outputs.push_back(apart ? nothing(one_.count + i) : own);
    if (one_.opcode == C10D_OP_BROADCAST) {
      side.expected.push_back(values(root, i, one_.count + i));
    } else if (one_.opcode == C10D_OP_REDUCE && rank != root) {
      side.expected.push_back(side.outputs.back());
    } else {
      side.expected.push_back(reduced(i, one_.count + i));
    }
  }
}

void Plan::make_all_to_all(size_t rank, bool base) {
  Side& side = sides_[rank];
  for (size_t other = 0; other < ranks_; other++) {
    side.inputs.push_back(values(rank, other, sent(rank, other)));
    side.outputs.push_back(nothing(sent(other, rank)));
    side.expected.push_back(values(other, rank, sent(other, rank)));
    side.input_splits.push_back(sent(rank, other));
    side.output_splits.push_back(sent(other, rank));
  }
  if (one_.layout != Layout::uneven || !base) side.input_splits = side.output_splits = {};
  if (!base) return;
  for (auto* list : {&side.inputs, &side.outputs, &side.expected}) {
    Numbers all;
    for (const auto& one : *list) append(all, one);
    *list = {all};
  }
}

void Plan::make() {
  const auto root = static_cast<size_t>(one_.root);
  for (size_t rank = 0; rank < ranks_; rank++) {
    Side& side = sides_[rank];
    switch (one_.opcode) {
      case C10D_OP_BROADCAST:
      case C10D_OP_ALLREDUCE:
      case C10D_OP_REDUCE:
        make_in_place(rank, 1);
        break;
      case C10D_OP_ALLREDUCE_COALESCED:
        make_in_place(rank, 3);
        break;
      case C10D_OP_GATHER:
      case C10D_OP_ALLGATHER:
        side.inputs = {values(rank, 0, one_.count)};
        for (size_t other = 0; other < ranks_ && (one_.opcode == C10D_OP_ALLGATHER || rank == root); other++) {
          side.outputs.push_back(nothing(one_.count));
          side.expected.push_back(values(other, 0, one_.count));
        }
        break;
      case C10D_OP_SCATTER:
        for (size_t other = 0; other < ranks_ && rank == root; other++) {
          side.inputs.push_back(values(root, other, one_.count));
        }
        side.outputs = {nothing(one_.count)};
        side.expected = {values(root, rank, one_.count)};
        break;
      case C10D_OP_ALLGATHER_BASE:
      case C10D_OP_ALLGATHER_COALESCED:
        for (size_t i = 0; i < (one_.opcode == C10D_OP_ALLGATHER_BASE ? 1 : 2); i++) {
          side.inputs.push_back(values(rank, i, one_.count + i));
          side.outputs.push_back(nothing(ranks_ * (one_.count + i)));
          side.expected.emplace_back();
          for (size_t other = 0; other < ranks_; other++) append(side.expected[i], values(other, i, one_.count + i));
        }
        break;
      case C10D_OP_REDUCE_SCATTER:
        for (size_t other = 0; other < ranks_; other++) side.inputs.push_back(values(rank, other, part_size(other)));
        side.outputs = {nothing(part_size(rank))};
        side.expected = {reduced(rank, part_size(rank))};
        break;
      case C10D_OP_REDUCE_SCATTER_BASE:
      case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
        for (size_t i = 0; i < (one_.opcode == C10D_OP_REDUCE_SCATTER_BASE ? 1 : 2); i++) {
          side.inputs.push_back(values(rank, i, ranks_ * (one_.count + i)));
          side.outputs.push_back(nothing(one_.count + i));
          side.expected.push_back(part(reduced(i, ranks_ * (one_.count + i)), rank, ranks_));
        }
        break;
      case C10D_OP_ALLTOALL:
      case C10D_OP_ALLTOALL_BASE:
        make_all_to_all(rank, one_.opcode == C10D_OP_ALLTOALL_BASE);
        break;
      default:
        break;
    }
  }
}

/// Buffers of a list, on a device.
class Buffers {
 public:
  Buffers(int32_t device, const std::vector<Numbers>& lists, uint32_t dtype, bool one_piece)
      : device_(device), dtype_(dtype) {
    uint64_t total = 0;
    for (const auto& list : lists) total += encoded(list, dtype).size();
    if (one_piece) blocks_.push_back(test_device::allocate(device, total));
    uint64_t next = one_piece ? blocks_[0] : 0;
    for (const auto& list : lists) {
      const uint64_t bytes = encoded(list, dtype).size();
      if (!one_piece) blocks_.push_back(next = test_device::allocate(device, bytes));
      buffers_.push_back({next, bytes});
      next += bytes;
    }
  }
  ~Buffers() {
    for (const uint64_t block : blocks_) test_device::free(block);
  }
  Buffers(const Buffers&) = delete;
  Buffers& operator=(const Buffers&) = delete;

  const std::vector<c10d_buffer>& list() const { return buffers_; }
  void write(uint64_t stream, const std::vector<Numbers>& lists) const {
    for (size_t i = 0; i < lists.size(); i++) {
      const Bytes bytes = encoded(lists[i], dtype_);
      if (!bytes.empty()) test_device::copy_in(device_, stream, buffers_[i].address, bytes.data(), bytes.size());
    }
  }
  std::vector<Numbers> read(uint64_t stream) const {
    std::vector<Numbers> all;
    for (const auto& buffer : buffers_) {
      Bytes bytes(buffer.bytes);
      if (!bytes.empty()) test_device::copy_out(device_, stream, bytes.data(), buffer.address, buffer.bytes);
      all.push_back(decoded(bytes, dtype_));
    }
    return all;
  }

 private:
  const int32_t device_;
  const uint32_t dtype_;
  std::vector<uint64_t> blocks_;
  std::vector<c10d_buffer> buffers_;
};

struct RankMemory {
  RankMemory(int32_t device, const Side& side, const SweepCase& one)
      : stream(device),
        inputs(device, side.inputs, one.dtype, one.layout == Layout::one_piece),
        outputs(device, side.outputs, one.dtype, one.layout == Layout::one_piece) {}
  DeviceStream stream;
  Buffers inputs;
  Buffers outputs;
};

c10d_op record_of(const SweepCase& one, const Side& side, const RankMemory& memory, int32_t device) {
  c10d_op op{};
  op.size = sizeof op;
  op.opcode = one.opcode;
  op.dtype = one.dtype;
  op.reduce_op = one.reduce_op;
  op.premul_factor = kFactor;
  op.peer = is_rooted(one.opcode) ? one.root : -1;
  op.flags = C10D_FLAG_STREAM;
  op.device_type = C10D_DEVICE_CUDA;
  op.device_index = device;
  op.stream = memory.stream;
  op.inputs = reinterpret_cast<uint64_t>(memory.inputs.list().data());
  op.outputs = reinterpret_cast<uint64_t>(memory.outputs.list().data());
  op.input_splits = reinterpret_cast<uint64_t>(side.input_splits.data());
  op.output_splits = reinterpret_cast<uint64_t>(side.output_splits.data());
  op.input_count = static_cast<uint32_t>(memory.inputs.list().size());
  op.output_count = static_cast<uint32_t>(memory.outputs.list().size());
  op.input_split_count = static_cast<uint32_t>(side.input_splits.size());
  op.output_split_count = static_cast<uint32_t>(side.output_splits.size());
  return op;
}

std::string text_of(const std::vector<Numbers>& lists) {
  std::string all;
  for (const auto& list : lists) {
    all += "[";
    for (const double number : list) all += std::to_string(number) + " ";
    all += "]";
  }
  return all;
}

}  // namespace

std::string run_case(DeviceRanks& ranks, const SweepCase& one) {
  const Plan plan(one, ranks.size());
  std::vector<std::unique_ptr<RankMemory>> memory;
  std::vector<int64_t> ids;
  for (int32_t rank = 0; rank < ranks.size(); rank++) {
    const Side& side = plan.sides()[static_cast<size_t>(rank)];
    memory.push_back(std::make_unique<RankMemory>(ranks.device(rank), side, one));
    const RankMemory& own = *memory.back();
    own.inputs.write(own.stream, side.inputs);
    own.outputs.write(own.stream, side.outputs);
    const c10d_op op = record_of(one, side, own, ranks.device(rank));
    ids.push_back(c10d_submit(ranks.group(rank), &op, 1));
    if (ids.back() < 0) return "rank " + std::to_string(rank) + " is refused: " + last_error();
    c10d_kick(ranks.group(rank));
  }
  for (int32_t rank = 0; rank < ranks.size(); rank++) {
    const auto id = ids[static_cast<size_t>(rank)];
    c10d_event event{};
    if (ranks.wait(rank, id, 20'000, &event) != C10D_OK) {
      return "rank " + std::to_string(rank) + ": " + take_failure(ranks.group(rank), static_cast<uint64_t>(id)).text;
    }
  }
  for (int32_t rank = 0; rank < ranks.size(); rank++) {
    const RankMemory& own = *memory[static_cast<size_t>(rank)];
    const Side& side = plan.sides()[static_cast<size_t>(rank)];
    const auto seen = own.outputs.read(own.stream);
    if (seen != side.expected) {
      return "rank " + std::to_string(rank) + " has " + text_of(seen) + " instead of " + text_of(side.expected);
    }
    if (own.inputs.read(own.stream) != side.inputs) return "the inputs have changed";
  }
  return "";
}

std::string text_of(const SweepCase& one, int32_t world_size) {
  return std::string(collective_name(one.opcode, 0)) + " of " + std::to_string(one.count) + " " +
         dtype_of(one.dtype).name + ", " + reduce_op_name(one.reduce_op) + ", root " + std::to_string(one.root) +
         ", layout " + std::to_string(static_cast<int>(one.layout)) + ", " + std::to_string(world_size) + " ranks";
}

std::vector<SweepCase> all_ops(int32_t world_size) {
  constexpr uint32_t kOps[] = {C10D_OP_BROADCAST,
                               C10D_OP_ALLREDUCE,
                               C10D_OP_ALLREDUCE_COALESCED,
                               C10D_OP_REDUCE,
                               C10D_OP_ALLGATHER,
                               C10D_OP_ALLGATHER_BASE,
                               C10D_OP_ALLGATHER_COALESCED,
                               C10D_OP_GATHER,
                               C10D_OP_SCATTER,
                               C10D_OP_REDUCE_SCATTER,
                               C10D_OP_REDUCE_SCATTER_BASE,
                               C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED,
                               C10D_OP_ALLTOALL,
                               C10D_OP_ALLTOALL_BASE,
                               C10D_OP_BARRIER};
  std::vector<SweepCase> all;
  for (const uint32_t opcode : kOps) {
    const bool in_place = opcode == C10D_OP_BROADCAST || opcode == C10D_OP_ALLREDUCE ||
                          opcode == C10D_OP_ALLREDUCE_COALESCED || opcode == C10D_OP_REDUCE;
    const bool parts =
        opcode == C10D_OP_ALLTOALL || opcode == C10D_OP_ALLTOALL_BASE || opcode == C10D_OP_REDUCE_SCATTER;
    for (int32_t root = 0; root < (is_rooted(opcode) ? world_size : 1); root++) {
      for (const auto layout : {Layout::separate, Layout::one_piece, Layout::uneven, Layout::out_of_place}) {
        if ((layout == Layout::uneven && !parts) || (layout == Layout::out_of_place && !in_place)) continue;
        for (const size_t count : {size_t{5}, size_t{0}}) {
          all.push_back({opcode, C10D_FLOAT32, C10D_SUM, root, count, layout});
        }
      }
    }
  }
  for (const uint32_t dtype :
       {C10D_INT16, C10D_UINT16, C10D_BOOL, C10D_COMPLEX128, C10D_FLOAT8_E4M3FN, C10D_BFLOAT16}) {
    all.push_back({C10D_OP_ALLGATHER, dtype});
    all.push_back({C10D_OP_ALLTOALL_BASE, dtype});
    all.push_back({C10D_OP_BROADCAST, dtype, C10D_SUM, world_size - 1});
  }
  return all;
}

std::vector<SweepCase> all_reductions() {
  std::vector<SweepCase> all;
  for (const uint32_t dtype : {C10D_UINT8, C10D_INT8, C10D_INT32, C10D_INT64, C10D_UINT32, C10D_UINT64, C10D_FLOAT16,
                               C10D_BFLOAT16, C10D_FLOAT32, C10D_FLOAT64, C10D_COMPLEX64, C10D_COMPLEX128, C10D_BOOL}) {
    const bool complex = numbers_per_element(dtype) == 2;
    const bool floats =
        complex || dtype == C10D_FLOAT16 || dtype == C10D_BFLOAT16 || dtype == C10D_FLOAT32 || dtype == C10D_FLOAT64;
    for (const uint32_t op : {C10D_SUM, C10D_AVG, C10D_PRODUCT, C10D_MIN, C10D_MAX, C10D_PREMUL_SUM}) {
      const bool linear = op == C10D_SUM || op == C10D_AVG || op == C10D_PREMUL_SUM;
      if ((complex && !linear) || (op == C10D_PREMUL_SUM && !floats) || (op == C10D_AVG && dtype == C10D_BOOL))
        continue;
      all.push_back({C10D_OP_ALLREDUCE, dtype, op});
      all.push_back({C10D_OP_REDUCE_SCATTER_BASE, dtype, op});
    }
  }
  return all;
}

}  // namespace c10d::test
