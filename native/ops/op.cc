#include "ops/op.h"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <utility>

#include "ops/call_text.h"
#include "ops/checked_size.h"
#include "ops/dtype.h"
#include "ops/names.generated.h"
#include "ops/sized_struct.h"

namespace c10d {

Clock::time_point deadline_after(double ms) {
  constexpr double kFarMs = 1e12;
  if (ms >= kFarMs) return Clock::time_point::max();
  // NaN does not wait either.
  if (!(ms > 0)) return Clock::now();
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(ms));
}

namespace {

constexpr uint32_t kMaxTableEntries = 1U << 20;
constexpr size_t kCopyAlignment = 64;

/// Bytes that the copy of a buffer takes.
size_t room_of(const c10d_buffer& buffer) { return (buffer.bytes + kCopyAlignment - 1) & ~(kCopyAlignment - 1); }

void copy_bytes(uint64_t to, uint64_t from, size_t bytes) {
  if (bytes > 0) std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
}

void copy_buffers(std::vector<c10d_buffer>& to, uint64_t address, uint32_t count, const void* first,
                  size_t element_bytes) {
  if (count > kMaxTableEntries) throw Failure(C10D_ERR_INVALID, "buffer table too long");
  if (count > 0 && address == 0) throw Failure(C10D_ERR_INVALID, "buffer table is NULL");
  const auto* from = reinterpret_cast<const c10d_buffer*>(address);
  to.assign(from, from + count);
  if (first != nullptr && count > 0) to[0].address = reinterpret_cast<uint64_t>(first);
  for (const auto& buffer : to) {
    if (buffer.address == 0 && buffer.bytes > 0) {
      throw Failure(C10D_ERR_INVALID, "buffer address is NULL: the buffer is detached");
    }
    if (buffer.bytes % element_bytes != 0)
      throw Failure(C10D_ERR_INVALID, "buffer size is not a multiple of the element size");
    if (!checked_sum(buffer.address, buffer.bytes)) throw Failure(C10D_ERR_INVALID, "buffer is larger than memory");
  }
  // Lists are copied into one piece of memory.
  const CheckedSize total = checked_sum(to);
  if (!total || *total > PTRDIFF_MAX) throw Failure(C10D_ERR_INVALID, "buffers are larger than memory");
}

void copy_splits(std::vector<uint64_t>& to, uint64_t address, uint32_t count, size_t element_bytes) {
  if (count > kMaxTableEntries) throw Failure(C10D_ERR_INVALID, "split table too long");
  if (count > 0 && address == 0) throw Failure(C10D_ERR_INVALID, "split table is NULL");
  const auto* from = reinterpret_cast<const uint64_t*>(address);
  to.assign(from, from + count);
  const CheckedSize bytes = checked_product(checked_sum(to), element_bytes);
  if (!bytes || *bytes > PTRDIFF_MAX) throw Failure(C10D_ERR_INVALID, "splits add up to more than memory");
}

/// Refuses what is invalid for every transport.
void check_record(const c10d_op& op, int rank, int world_size, const Device& device) {
  if (!(op.timeout_ms >= 0)) throw Failure(C10D_ERR_INVALID, "timeout_ms must not be negative");
  if (op.opcode > kHighestOpcode && !is_service(op.opcode)) {
    throw Failure(C10D_ERR_UNSUPPORTED, "unknown op");
  }
  if (element_size(op.dtype) == 0) throw Failure(C10D_ERR_UNSUPPORTED, "unknown dtype");
  if (reduce_op_name(op.reduce_op) == nullptr) throw Failure(C10D_ERR_UNSUPPORTED, "unknown reduce op");
  if (op.reduce_op == C10D_PREMUL_SUM && std::isnan(op.premul_factor)) {
    throw Failure(C10D_ERR_INVALID, "premul_factor must be a number");
  }
  constexpr uint32_t kKnownFlags = C10D_FLAG_MONITORED | C10D_FLAG_WAIT_ALL_RANKS | C10D_FLAG_STREAM | C10D_FLAG_TIMES;
  if ((op.flags & ~kKnownFlags) != 0) throw Failure(C10D_ERR_INVALID, "unknown flags");
  if (op.reserved != 0) throw Failure(C10D_ERR_INVALID, "reserved must be 0");
  if (op.device_type != device.type || op.device_index != device.index) {
    throw Failure(C10D_ERR_INVALID, "the tensors are on device " + text_of(Device{op.device_type, op.device_index}) +
                                        ", but the group is on " + text_of(device));
  }
  if (op.stream != 0 && (op.flags & C10D_FLAG_STREAM) == 0) {
    throw Failure(C10D_ERR_INVALID, "a stream needs C10D_FLAG_STREAM");
  }
  const bool to_peer = op.opcode == C10D_OP_SEND || op.opcode == C10D_OP_RECV;
  if (!to_peer && !is_rooted(op.opcode)) return;
  if (op.peer < 0 || op.peer >= world_size) throw Failure(C10D_ERR_INVALID, to_peer ? "no such peer" : "no such root");
  if (to_peer && op.peer == rank) throw Failure(C10D_ERR_INVALID, "the peer is this rank itself");
}

}  // namespace

void Op::assign(const c10d_op& record, const void* input0, void* output0, int rank, int world_size,
                const Device& device) {
  request = read_struct(&record, record.size, "c10d_op");
  check_record(request, rank, world_size, device);
  const size_t element_bytes = element_size(request.dtype);
  copy_buffers(inputs, request.inputs, request.input_count, input0, element_bytes);
  copy_buffers(outputs, request.outputs, request.output_count, output0, element_bytes);
  copy_splits(input_splits, request.input_splits, request.input_split_count, element_bytes);
  copy_splits(output_splits, request.output_splits, request.output_split_count, element_bytes);
  deadline = deadline_of_limit(request.timeout_ms);
  number = ticket = 0;
  followers = 0;
  direct = false;
  issued = started = finished = Clock::time_point();
  phase = Phase::queued;
  awaited = pinned = reported = failure_taken = false;
  failure.reset();
  source = -1;
  copied_outputs.clear();
}

void Op::work_on_copies() {
  size_t room = kCopyAlignment;
  for (const auto* buffers : {&inputs, &outputs}) {
    for (const auto& buffer : *buffers) room += room_of(buffer);
  }
  if (copies_capacity < room) {
    copies.reset();
    copies_capacity = 0;
    copies.reset(new char[room]);
    copies_capacity = room;
  }
  copied_outputs = outputs;
  uint64_t next = reinterpret_cast<uint64_t>(copies.get());
  next = (next + kCopyAlignment - 1) & ~uint64_t{kCopyAlignment - 1};
  for (auto* buffers : {&inputs, &outputs}) {
    for (auto& buffer : *buffers) {
      // Outputs too: some ops read them, and some leave part of them unchanged.
      copy_bytes(next, buffer.address, buffer.bytes);
      buffer.address = next;
      next += room_of(buffer);
    }
  }
}

void Op::copy_back() {
  for (size_t i = 0; i < copied_outputs.size(); i++) {
    copy_bytes(copied_outputs[i].address, outputs[i].address, outputs[i].bytes);
  }
  copied_outputs.clear();
}

void Op::leave_copies() {
  static auto* left = new std::vector<std::unique_ptr<char[]>>;
  static std::mutex left_mutex;
  const std::lock_guard<std::mutex> lock(left_mutex);
  left->push_back(std::move(copies));
  copies_capacity = 0;
}

}  // namespace c10d
