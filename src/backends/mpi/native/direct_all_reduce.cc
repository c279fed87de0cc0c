#include "direct_all_reduce.h"

#include <algorithm>
#include <memory>

#include "datatypes.h"
#include "process/runtime.h"

namespace c10d::mpi_shim {

namespace {

/// Below this MPI's own all-reduce is as fast.
constexpr uint64_t kMinBytesPerRank = 16 * 1024;
/// Bytes that a rank receives and reduces in one round: few enough to stay in the cache, enough to make a round
/// worthwhile.
constexpr uint64_t kRound = 1024 * 1024;

/// In round s the ranks exchange segment s of the inputs and segment s - 1 of the results.
class DirectAllReduce {
 public:
  DirectAllReduce(Call& call, const Communicator& communicator, uint8_t* data, uint64_t elements)
      : call_(call),
        comm_(communicator),
        data_(data),
        elements_(elements),
        size_(element_size(call.op->request.dtype)),
        segment_(kRound / static_cast<uint64_t>(communicator.size - 1) / size_),
        tag_(communicator.turn_tag(call.op->number)),
        reduce_(reduction_of(call.op->request)) {
    const auto others = static_cast<uint64_t>(comm_.size - 1);
    scratch_ = call.add_buffer(others * std::min(segment_, part_of(0).count) * size_);
    // Part 0 is the longest.
    segments_ = (part_of(0).count + segment_ - 1) / segment_;
    call.requests.reserve(4 * others);
  }

  void begin() { post(); }

  /// Begins the next round; returns whether there is none.
  bool next() {
    if (round_ < segments_) reduce(round_);
    round_++;
    if (round_ > segments_) return true;
    call_.requests.clear();
    post();
    return false;
  }

 private:
  struct Span {
    uint64_t first = 0;
    uint64_t count = 0;
  };

  Span part_of(int rank) const {
    const auto n = static_cast<uint64_t>(comm_.size);
    const auto r = static_cast<uint64_t>(rank);
    const uint64_t least = elements_ / n;
    const uint64_t longer = elements_ % n;
    return {r * least + std::min(r, longer), least + (r < longer ? 1 : 0)};
  }
  /// Segment `index` of the part of a rank; empty beyond its end.
  Span segment_of(int rank, uint64_t index) const {
    const Span part = part_of(rank);
    const uint64_t skipped = std::min(index * segment_, part.count);
    return {part.first + skipped, std::min(segment_, part.count - skipped)};
  }
  int peer(int distance) const { return (comm_.rank + distance) % comm_.size; }
  uint8_t* scratch_for(int distance) const {
    return scratch_ + static_cast<uint64_t>(distance - 1) * std::min(segment_, part_of(0).count) * size_;
  }

  void post() {
    if (round_ < segments_) {
      const Span own = segment_of(comm_.rank, round_);
      for (int i = 1; i < comm_.size; i++) receive(scratch_for(i), own.count, peer(i));
      for (int i = 1; i < comm_.size; i++) send(segment_of(peer(i), round_), peer(i));
    }
    if (round_ > 0) {
      for (int i = 1; i < comm_.size; i++) {
        const Span theirs = segment_of(peer(i), round_ - 1);
        receive(data_ + theirs.first * size_, theirs.count, peer(i));
      }
      for (int i = 1; i < comm_.size; i++) send(segment_of(comm_.rank, round_ - 1), peer(i));
    }
  }

  void receive(uint8_t* to, uint64_t count, int from) {
    if (count == 0) return;
    require_success(
        MPI_Irecv(to, static_cast<int>(count * size_), MPI_BYTE, from, tag_, comm_.handle, call_.add_request()),
        "MPI_Irecv");
  }
  void send(Span span, int to) {
    if (span.count == 0) return;
    require_success(MPI_Isend(data_ + span.first * size_, static_cast<int>(span.count * size_), MPI_BYTE, to, tag_,
                              comm_.handle, call_.add_request()),
                    "MPI_Isend");
  }

  /// Always in the same order, so that the same tensors have the same sum.
  void reduce(uint64_t index) {
    const Span own = segment_of(comm_.rank, index);
    uint8_t* target = data_ + own.first * size_;
    for (int i = 1; i < comm_.size; i++) reduce_(target, target, scratch_for(i), own.count);
    if (call_.op->request.reduce_op == C10D_AVG) divide(target, own.count, call_.op->request.dtype, comm_.size);
  }

  Call& call_;
  const Communicator& comm_;
  uint8_t* const data_;
  const uint64_t elements_;
  const size_t size_;
  const uint64_t segment_;
  const int tag_;
  const Reduction reduce_;
  uint8_t* scratch_ = nullptr;
  uint64_t segments_ = 0;
  uint64_t round_ = 0;
};

}  // namespace

bool is_direct(const Communicator& communicator, uint64_t bytes) {
  return !communicator.mixed && communicator.size > 1 && communicator.size <= communicator.max_direct_ranks &&
         bytes >= kMinBytesPerRank * static_cast<uint64_t>(communicator.size);
}

void begin_direct_all_reduce(Call& call, const Communicator& communicator, uint8_t* data, uint64_t bytes) {
  const size_t size = element_size(call.op->request.dtype);
  const auto running = std::make_shared<DirectAllReduce>(call, communicator, data, bytes / size);
  running->begin();
  call.next_step = [running] { return running->next(); };
}

}  // namespace c10d::mpi_shim
