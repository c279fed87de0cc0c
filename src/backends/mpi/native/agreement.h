// The ranks of a group compare their calls before a collective touches its data. MPI does not: calls that differ cause
// wrong results, or writes beyond a buffer.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "communicator.h"
#include "ops/op.h"
#include "ops/signature.h"
#include "reduction/small_op.h"

namespace c10d::mpi_shim {

/// The comparison for one collective. In a small group all ranks send each other their signatures, together with the
/// data of a small op. In a large one they compare in log2(n) rounds, each of which doubles the number of ranks that
/// are known to agree; before an all-to-all, each pair then compares what one sends to the other. What the ranks
/// exchange does not depend on the op, so ranks that are out of step only ever read each other's signatures.
class Agreement {
 public:
  /// Sends the signature of this rank; `number` counts the comparisons of the group. Called in the order of its
  /// collectives.
  void begin(const Op& op, const Communicator& communicator, uint64_t number);

  /// Whether all ranks have made the same call. Throws Failure as soon as one is known to differ.
  bool reached();

  /// Whether the data of all ranks travels with the signatures, so that finish() completes the op when they agree.
  bool carries_data() const { return carries_data_; }
  void finish(const Op& op);

  /// A rank whose signature has not arrived; -1 if there is none.
  int awaited() const;
  /// Whether the signature of this rank has not arrived.
  bool awaits(int rank) const;

  /// For an op that is given up. MPI may still write to buffers of this object, which must not be destroyed.
  void cancel();

 private:
  struct Header {
    Signature signature;
    /// Whether the data of a small op follows.
    uint64_t carries_data = 0;
  };
  // The data that follows is aligned for every dtype: for an all-to-all, the bytes that the rank sends to each and
  // expects from each; then the data of a small op.
  static_assert(sizeof(Header) % 16 == 0, "no padding is needed");

  bool direct() const { return in_pairs_ || comm_->size <= comm_->max_direct_ranks; }
  /// Whether each rank receives all parts of an all-to-all, so that it sees a mismatch between two others too.
  bool all_compare() const { return comm_->size > 2 && comm_->size <= comm_->max_direct_ranks; }
  size_t parts_bytes() const { return 2 * static_cast<size_t>(comm_->size) * sizeof(uint64_t); }
  size_t data_at() const { return sizeof(Header) + (has_parts_ ? parts_bytes() : 0); }
  /// Size of the largest message that another rank may send.
  size_t slot_bytes() const { return sizeof(Header) + (all_compare() ? parts_bytes() : 0) + kMostCarried; }
  void send_to_all();
  void write_parts();
  /// The signature of a rank, which has arrived, for another one.
  Signature signature_of(int rank, int other);
  void compare(size_t i);
  void begin_round();
  void make_room(int ranks);
  /// Whether all requests have ended; compares each signature when it arrives.
  bool all_ended();
  /// The other rank of the send or receive number `i`, counted from 0.
  int destination(size_t i) const { return (comm_->rank + distance_ + static_cast<int>(i)) % comm_->size; }
  int source(size_t i) const {
    return direct() ? destination(i) : (comm_->rank + comm_->size - distance_) % comm_->size;
  }
  uint8_t* outgoing(size_t i) { return outgoing_.data() + i * slot_bytes(); }
  uint8_t* incoming(int rank) { return incoming_.data() + (direct() ? static_cast<size_t>(rank) * slot_bytes() : 0); }

  const Communicator* comm_ = nullptr;
  const Op* op_ = nullptr;
  /// Whether the rounds are over and pairs are compared.
  bool in_pairs_ = false;
  Header own_{};
  int tag_ = 0;
  /// Distance to the first rank that this one sends to.
  int distance_ = 1;
  bool carries_data_ = false;
  bool has_parts_ = false;
  /// A mismatch of parts, kept while those of other ranks may still arrive, so that all ranks name the same two.
  std::optional<Failure> mismatch_;
  Clock::time_point others_until_{};
  std::vector<MPI_Request> sends_;
  std::vector<MPI_Request> receives_;
  std::vector<uint8_t> outgoing_;
  /// The slot of each rank, this one included; in rounds, just one signature.
  std::vector<uint8_t> incoming_;
};

}  // namespace c10d::mpi_shim
