// What all collectives over lines share: the buffers of each rank, and what is left to do after all is queued.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "mesh/direct.h"
#include "reduction/reduction.h"

namespace c10d {

/// What is reduced or passed on at once, per rank: small enough for the caches, large enough to be worth a call.
constexpr size_t kPieceBytes = 64 * 1024;

inline uint8_t* bytes_at(const c10d_buffer& buffer) { return reinterpret_cast<uint8_t*>(buffer.address); }

inline void copy(uint8_t* to, const uint8_t* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

class DirectCollective::Impl {
 public:
  Impl(const Op& op, Lines& lines)
      : op_(op),
        rank_(lines.rank()),
        size_(lines.size()),
        ranks_(static_cast<size_t>(size_)),
        element_(std::max<size_t>(element_size(op.request.dtype), 1)),
        all_compare_(lines.all_compare()),
        lines_(lines, op) {}

  /// Sends and receives what is possible without waiting. Returns whether that was all of the op.
  bool begin() {
    queue();
    lines_.start();
    if (!queued_all_ || !lines_.idle()) return false;
    rest_();
    return true;
  }

  /// Does what begin() has left.
  void finish() {
    if (queued_all_) lines_.finish();
    rest_();
  }

  bool finish_by(Clock::time_point deadline) {
    if (!queued_all_ || !lines_.finish_by(deadline)) return false;
    rest_();
    return true;
  }

 private:
  void queue();

  /// Everything to send and to receive is queued; `rest` comes after that.
  template <class Rest>
  void queued_all(Rest rest) {
    queued_all_ = true;
    rest_ = rest;
  }
  /// What is sent depends on what comes.
  template <class Rest>
  void step_by_step(Rest rest) {
    rest_ = rest;
  }
  template <class Body>
  void each_peer(Body body) {
    // Not all begin with the same one.
    for (int i = 1; i < size_; i++) body((rank_ + i) % size_);
  }

  /// Whether calls are compared with those of a peer even where no data is exchanged with it.
  bool is_compared(int peer) const {
    const int distance = (peer - rank_ + size_) % size_;
    return all_compare_ || distance == 1 || distance == size_ - 1;
  }

  const c10d_buffer& of_rank(const std::vector<c10d_buffer>& buffers, int rank) const {
    return buffers[static_cast<size_t>(rank)];
  }

  std::vector<c10d_buffer> parts(const c10d_buffer& whole, size_t bytes) const;
  std::vector<c10d_buffer> split(const c10d_buffer& whole, const std::vector<uint64_t>& splits) const;

  // Reductions, in direct_reductions.cc.
  /// Memory for `bytes` of each peer, `depth` times.
  void take_scratch(size_t bytes, size_t depth);
  uint8_t* scratch_of(int peer, size_t turn = 0) const;
  /// Folds `own` and what has come from the peers, in the order of ranks, into `to`, which may be `own`.
  void fold(uint8_t* to, const uint8_t* own, size_t bytes, size_t turn = 0);
  void all_reduce(const c10d_buffer& buffer);
  void all_reduce_at_once(uint8_t* data, size_t bytes);
  /// A reduce-scatter and an all-gather of pieces, several of which are under way at the same time.
  void all_reduce_by_pieces(uint8_t* data, size_t bytes);
  /// One all-reduce of the concatenation.
  void all_reduce_list();
  void reduce_scatter(const std::vector<c10d_buffer>& inputs);
  /// Folds what has come from the peers for this rank, and `own`, into the output.
  void fold_pieces(const c10d_buffer& output, const uint8_t* own);

  // Copies, in direct_copies.cc.
  void all_gather(const std::vector<c10d_buffer>& outputs);
  void all_to_all(const std::vector<c10d_buffer>& outputs, const std::vector<c10d_buffer>& inputs);
  /// A binomial tree, through which the pieces follow each other.
  void broadcast();
  /// The part of a rank between the root and the leaves.
  void pass_on(const c10d_buffer& buffer, int parent, const std::vector<int>& children);
  void gather();
  void scatter();
  void barrier();
  /// Only compares calls, for an op that goes over Gloo then.
  void compare();

  // In direct_monitored_barrier.cc.
  void monitored_barrier();
  void release_others();

  const Op& op_;
  const int rank_;
  const int size_;
  const size_t ranks_;
  const size_t element_;
  const bool all_compare_;
  Lines::Turn lines_;
  std::unique_ptr<uint8_t[]> flat_;
  uint64_t word_ = 0;
  uint8_t* scratch_ = nullptr;
  size_t stride_ = 0;
  bool queued_all_ = false;
  std::function<void()> rest_;
};

}  // namespace c10d
