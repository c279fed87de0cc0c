#include "random_record.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "ops/dtype.h"
#include "ops/names.generated.h"

namespace c10d::test {

RandomRecord::RandomRecord(std::mt19937_64& random, int rank, int world_size, bool honest, Device device)
    : random_(random) {
  op_.size = sizeof op_;
  op_.device_type = device.type;
  op_.device_index = device.index;
  op_.opcode = static_cast<uint32_t>(random_() % (kHighestOpcode + 1));
  if (honest && chance(2)) op_.opcode = chance(3) ? C10D_OP_ALLTOALL : C10D_OP_ALLTOALL_BASE;
  op_.dtype = static_cast<uint32_t>(pick({C10D_UINT8, C10D_INT16, C10D_FLOAT32, C10D_INT64, C10D_COMPLEX128}));
  op_.reduce_op = static_cast<uint32_t>(pick({C10D_SUM, C10D_MAX, C10D_BOR}));
  op_.peer = static_cast<int32_t>(random_() % static_cast<uint64_t>(world_size));
  op_.timeout_ms = 10'000;
  op_.premul_factor = 1;
  element_ = element_size(op_.dtype);
  fit(rank, static_cast<uint64_t>(world_size));
  if (!chance(8)) spoil(honest);
  op_.inputs = reinterpret_cast<uint64_t>(inputs_.data());
  op_.outputs = reinterpret_cast<uint64_t>(outputs_.data());
  op_.input_splits = reinterpret_cast<uint64_t>(input_splits_.data());
  op_.output_splits = reinterpret_cast<uint64_t>(output_splits_.data());
  op_.input_count = static_cast<uint32_t>(inputs_.size());
  op_.output_count = static_cast<uint32_t>(outputs_.size());
  op_.input_split_count = static_cast<uint32_t>(input_splits_.size());
  op_.output_split_count = static_cast<uint32_t>(output_splits_.size());
  if (!honest && chance(6)) {
    // Tables that are missing, or not as long as the record says.
    (chance(2) ? op_.inputs : op_.output_splits) = 0;
    if (chance(2)) op_.output_count = static_cast<uint32_t>(pick({(1U << 20) + 1, 0x7fffffff, 0x80000000, 0xffffffff}));
  }
  if (!chance(4)) spoil_place();
  write(honest);
}

/// The fields that were added with devices: where and when it runs.
void RandomRecord::spoil_place() {
  if (chance(4)) op_.flags |= C10D_FLAG_STREAM;
  if (chance(4)) op_.flags |= C10D_FLAG_TIMES;
  if (chance(4)) op_.stream = boundary();
  if (chance(8)) op_.device_type = static_cast<uint32_t>(pick({0, 1, 2, 20, 0xffffffff}));
  if (chance(8)) op_.device_index = static_cast<int32_t>(pick({0, 1, 2, 0x7fffffff, 0xffffffff}));
  if (chance(16)) op_.reserved = static_cast<uint32_t>(boundary());
  if (chance(8)) op_.opcode = static_cast<uint32_t>(C10D_SERVICE_REGISTER_MEMORY - 1 + random_() % 6);
}

/// The record as another version of the host writes it, or a wrong one.
void RandomRecord::write(bool honest) {
  uint64_t bytes = sizeof op_;
  if (chance(4)) bytes = 8 * (1 + random_() % 20);
  op_.size = static_cast<uint32_t>(bytes);
  if (!honest && chance(16)) op_.size = static_cast<uint32_t>(pick({0, 4, 7, 9, 4097, 4104, 0x80000000, 0xfffffff8}));
  record_ = std::make_unique<uint64_t[]>(bytes / 8);
  std::memcpy(record_.get(), &op_, std::min<uint64_t>(bytes, sizeof op_));
  if (bytes < sizeof op_) std::memset(reinterpret_cast<char*>(&op_) + bytes, 0, sizeof op_ - bytes);
  if (bytes <= sizeof op_ || !chance(3)) return;
  auto* const all = reinterpret_cast<uint8_t*>(record_.get());
  all[sizeof op_ + random_() % (bytes - sizeof op_)] = static_cast<uint8_t>(1 + random_() % 255);
  unknown_ = true;
}

uint64_t RandomRecord::pick(std::initializer_list<uint64_t> numbers) {
  return numbers.begin()[random_() % numbers.size()];
}

/// Numbers near those at which a sum or product overflows 64 or 63 bits, for any element size.
uint64_t RandomRecord::boundary() {
  const uint64_t near = random_() % 9 - 4;
  return near + pick({0, 1, 16, uint64_t{1} << 20, uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 60,
                      uint64_t{1} << 61, uint64_t{1} << 62, uint64_t{1} << 63, UINT64_MAX / element_});
}

c10d_buffer RandomRecord::make(uint64_t elements) {
  const uint64_t bytes = elements * element_;
  // Of exactly this size, so that a sanitizer sees what goes beyond it.
  memory_.push_back(std::make_unique<uint8_t[]>(bytes));
  return {bytes == 0 ? 0 : reinterpret_cast<uint64_t>(memory_.back().get()), bytes};
}

void RandomRecord::fit(int rank, uint64_t n) {
  const uint64_t count = random_() % 5;
  const bool at_root = op_.peer == rank;
  const auto list = [&](std::vector<c10d_buffer>& to, uint64_t length, uint64_t elements) {
    for (uint64_t i = 0; i < length; i++) to.push_back(make(elements));
  };
  switch (op_.opcode) {
    case C10D_OP_ALLGATHER:
      list(inputs_, 1, count);
      return list(outputs_, n, count);
    case C10D_OP_ALLGATHER_BASE:
    case C10D_OP_ALLGATHER_COALESCED:
    case C10D_OP_ALLREDUCE_SPARSE:
      list(inputs_, 1, count);
      return list(outputs_, 1, count * n);
    case C10D_OP_GATHER:
      list(inputs_, 1, count);
      return list(outputs_, at_root ? n : 0, count);
    case C10D_OP_SCATTER:
      list(inputs_, at_root ? n : 0, count);
      return list(outputs_, 1, count);
    case C10D_OP_REDUCE_SCATTER:
      list(inputs_, n, count);
      return list(outputs_, 1, count);
    case C10D_OP_REDUCE_SCATTER_BASE:
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      list(inputs_, 1, count * n);
      return list(outputs_, 1, count);
    case C10D_OP_ALLTOALL:
      list(inputs_, n, count);
      return list(outputs_, n, count);
    case C10D_OP_ALLTOALL_BASE:
      list(inputs_, 1, count * n);
      list(outputs_, 1, count * n);
      if (chance(4)) return;
      input_splits_.assign(n, count);
      output_splits_ = input_splits_;
      return;
    case C10D_OP_SEND:
      return list(inputs_, 1, count);
    case C10D_OP_BARRIER:
    case C10D_OP_COALESCED:
      return;
    default:
      return list(outputs_, 1, count);
  }
}

/// Other splits with the same sum, modulo 2^64 or after multiplication by the element size.
void RandomRecord::spoil_splits() {
  for (auto* splits : {&input_splits_, &output_splits_}) {
    if (splits->size() < 2) continue;
    const uint64_t moved = boundary();
    const uint64_t lap = chance(2) ? 0 : (UINT64_MAX / element_ + 1) * pick({1, 2, 3});
    (*splits)[0] += moved;
    (*splits)[1] += lap - moved;
  }
}

void RandomRecord::spoil(bool honest) {
  if (!input_splits_.empty() && !chance(4)) spoil_splits();
  if (chance(4)) op_.peer = static_cast<int32_t>(static_cast<uint32_t>(boundary()));
  if (chance(8)) op_.dtype = static_cast<uint32_t>(random_() % 40);
  if (!input_splits_.empty() && chance(4)) input_splits_[random_() % input_splits_.size()] = boundary();
  if (!outputs_.empty() && chance(8)) outputs_.pop_back();
  if (!inputs_.empty() && chance(8)) inputs_.pop_back();
  if (honest) return;
  for (auto* buffers : {&inputs_, &outputs_}) {
    if (!buffers->empty() && chance(3)) (*buffers)[random_() % buffers->size()].bytes = boundary();
    if (!buffers->empty() && chance(8)) (*buffers)[random_() % buffers->size()].address = boundary();
  }
  if (chance(8)) op_.opcode = static_cast<uint32_t>(boundary());
  if (chance(8)) op_.reduce_op = static_cast<uint32_t>(boundary());
  if (chance(8)) op_.flags = static_cast<uint32_t>(boundary());
  if (chance(8)) {
    constexpr double kOdd[] = {0, -0.0, -1, 1e-320, 1e300, HUGE_VAL, -HUGE_VAL};
    op_.timeout_ms = chance(8) ? std::numeric_limits<double>::quiet_NaN() : kOdd[random_() % 7];
  }
}

uint64_t fuzz_seed() {
  const char* given = std::getenv("C10D_FUZZ_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

double fuzz_seconds() {
  const char* given = std::getenv("C10D_FUZZ_SECONDS");
  return given != nullptr ? std::strtod(given, nullptr) : 1;
}

}  // namespace c10d::test
