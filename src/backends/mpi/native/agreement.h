// The ranks of a group compare their calls before a collective touches its data. MPI does not: calls that differ give wrong
// results, or writes beyond a buffer.
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

/// The comparison for one collective. Few ranks send each other their signatures, which carry the data of a small op; many do it
/// in log2(n) rounds, each of which doubles the number of ranks that are known to agree; then, before an all-to-all,
/// each pair compares what goes from one to the other. What a rank receives depends on no op, so ranks out of step read each
/// other's signatures and nothing else.
class Agreement {
 public:
  /// Sends what this rank calls; `number` counts the group's comparisons. Called in the order of its collectives.
  void begin(const Op& op, const Communicator& communicator, uint64_t number);

  /// Whether all ranks have made the same call. Throws Failure as soon as one has not.
  bool reached();

  /// Whether the data of all ranks comes with the signatures, so that finish() completes the op when they agree.
  bool carries_data() const { return carries_data_; }
  void finish(const Op& op);

  /// A rank whose signature has not come; -1 if there is none.
  int awaited() const;
  /// Whether the signature of this rank has not come.
  bool awaits(int rank) const;

  /// For an op that is given up. What MPI may still write to stays as long as this object.
  void cancel();

 private:
  struct Header {
    Signature signature;
    /// Whether the data of a small op follows.
    uint64_t carries_data = 0;
  };
  // What follows is aligned for every dtype: for an all-to-all, what the rank sends to each and expects from each; then the
  // data of a small op.
  static_assert(sizeof(Header) % 16 == 0, "no padding is needed");

  bool direct() const { return in_pairs_ || comm_->size <= comm_->most_direct; }
  /// Whether each rank gets to know all parts of an all-to-all, so that a third one too sees that those of two do not fit.
  bool all_compare() const { return comm_->size > 2 && comm_->size <= comm_->most_direct; }
  size_t parts_bytes() const { return 2 * static_cast<size_t>(comm_->size) * sizeof(uint64_t); }
  size_t data_at() const { return sizeof(Header) + (has_parts_ ? parts_bytes() : 0); }
  /// Room for whatever another rank may send.
  size_t slot_bytes() const { return sizeof(Header) + (all_compare() ? parts_bytes() : 0) + kMostCarried; }
  void send_to_all();
  void write_parts();
  /// What a rank that has come has for another one.
  Signature signature_of(int rank, int other);
  void compare(size_t i);
  void begin_round();
  void make_room(int ranks);
  /// Whether all requests have ended; compares each signature when it comes.
  bool all_ended();
  /// Of the message that is sent or received `i` places on, counted from 0.
  int destination(size_t i) const { return (comm_->rank + distance_ + static_cast<int>(i)) % comm_->size; }
  int source(size_t i) const {
    return direct() ? destination(i) : (comm_->rank + comm_->size - distance_) % comm_->size;
  }
  uint8_t* outgoing(size_t i) { return outgoing_.data() + i * slot_bytes(); }
  uint8_t* incoming(int rank) { return incoming_.data() + (direct() ? static_cast<size_t>(rank) * slot_bytes() : 0); }

  const Communicator* comm_ = nullptr;
  const Op* op_ = nullptr;
  /// After the rounds.
  bool in_pairs_ = false;
  Header own_{};
  int tag_ = 0;
  /// To the first rank that this one sends to.
  int distance_ = 1;
  bool carries_data_ = false;
  bool has_parts_ = false;
  /// Parts that do not fit, while those of others may still come, so that all name the same two ranks.
  std::optional<Failure> mismatch_;
  Clock::time_point others_until_{};
  std::vector<MPI_Request> sends_;
  std::vector<MPI_Request> receives_;
  std::vector<uint8_t> outgoing_;
  /// By rank, what it has for this one, or this one for itself; in rounds, just one signature.
  std::vector<uint8_t> incoming_;
};

}  // namespace c10d::mpi_shim
