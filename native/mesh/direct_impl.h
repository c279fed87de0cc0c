// What the collectives over connections share: the buffers of each rank, and the work that is left when all is queued.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "mesh/direct.h"
#include "mesh/flat.h"
#include "reduction/reduction.h"

namespace c10d {

/// Bytes per rank that are reduced or forwarded at once: few enough for the caches, enough to be worth a call.
constexpr size_t kPieceBytes = 64 * 1024;

inline uint8_t* bytes_at(const c10d_buffer& buffer) { return reinterpret_cast<uint8_t*>(buffer.address); }

inline void copy(uint8_t* to, const uint8_t* from, size_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

class DirectCollective::Impl {
 public:
  Impl(const Op& op, Connections& connections)
      : op_(op),
        rank_(connections.rank()),
        size_(connections.size()),
        ranks_(static_cast<size_t>(size_)),
        element_(std::max<size_t>(element_size(op.request.dtype), 1)),
        all_compare_(connections.all_compare()),
        turn_(connections, op) {}

  /// Sends and receives what is possible without waiting. Returns whether the op is complete.
  bool begin() {
    queue();
    turn_.start();
    if (!queued_all_ || !turn_.idle()) return false;
    rest_();
    return true;
  }

  /// Does what begin() left.
  void finish() {
    if (queued_all_) turn_.finish();
    rest_();
  }

  bool finish_by(Clock::time_point deadline) {
    if (!queued_all_ || !turn_.finish_by(deadline)) return false;
    rest_();
    return true;
  }

 private:
  void queue();

  /// All sends and receives are queued. `rest` runs after them.
  template <class Rest>
  void queued_all(Rest rest) {
    queued_all_ = true;
    rest_ = rest;
  }
  /// What is sent depends on what arrives: `rest` does all that follows.
  template <class Rest>
  void step_by_step(Rest rest) {
    rest_ = rest;
  }
  template <class Body>
  void each_peer(Body body) {
    // Ranks begin with different peers.
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
  uint8_t* scratch_of(int peer, size_t slot = 0) const;
  /// Reduces `own` and what the peers sent, in the order of ranks, into `to`, which may be `own`.
  void fold(uint8_t* to, const uint8_t* own, size_t bytes, size_t slot = 0);
  void all_reduce(const c10d_buffer& buffer);
  void all_reduce_at_once(uint8_t* data, size_t bytes);
  /// A reduce-scatter and an all-gather of pieces, several of which are in flight at the same time.
  void all_reduce_by_pieces(uint8_t* data, size_t bytes);
  /// One all-reduce of the concatenation.
  void all_reduce_list();
  void reduce_scatter(const std::vector<c10d_buffer>& inputs);
  /// Reduces `own` and what the peers sent to this rank into the output.
  void fold_pieces(const c10d_buffer& output, const uint8_t* own);

  // Copies, in direct_copies.cc.
  void all_gather(const std::vector<c10d_buffer>& outputs);
  void all_to_all(const std::vector<c10d_buffer>& outputs, const std::vector<c10d_buffer>& inputs);
  /// A binomial tree through which the pieces are pipelined.
  void broadcast();
  /// What a rank between the root and the leaves does.
  void pass_on(const c10d_buffer& buffer, int parent, const std::vector<int>& children);
  void gather();
  void scatter();
  void barrier();
  /// Only compares calls, for an op that is then carried out by other means.
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
  Connections::Turn turn_;
  std::optional<Flat> flat_;
  uint64_t word_ = 0;
  uint8_t* scratch_ = nullptr;
  size_t stride_ = 0;
  bool queued_all_ = false;
  std::function<void()> rest_;
};

}  // namespace c10d
