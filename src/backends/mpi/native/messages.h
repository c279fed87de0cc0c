// Point-to-point ops, and the monitored barrier, which is made of them.
#pragma once

#include <cstdint>
#include <unordered_set>

#include "call.h"
#include "ops/failure.h"

namespace c10d::mpi_shim {

/// Throws Failure if the op is no message that this rank can send or receive.
void check_message(const Op& op, int first_own_tag);

/// Begins to send; a receive waits for match_message().
void begin_message(Call& call, const Communicator& communicator);

/// Receives that were begun earlier and still wait: what may be theirs is not for later ones.
class Waiting {
 public:
  void add(const Op& op);
  void clear();
  /// Whether the next message from `source`, or from any rank, may be for this receive.
  bool may_take(const Op& op, int source) const;

 private:
  /// By tag and source, and by tag alone: many may wait.
  std::unordered_set<uint64_t> from_one_;
  std::unordered_set<uint32_t> tags_from_one_;
  std::unordered_set<uint32_t> tags_from_any_;
};

/// Begins to receive if the message has come and no earlier receive waits for it. Only then is its size known, and Open MPI
/// writes beyond the buffer of a large message that does not fit. Throws Failure if it does not.
bool match_message(Call& call, const Communicator& communicator, const Waiting& earlier);

/// Takes over the source of a message that has been received.
void end_message(Op& op, const MPI_Status& status);

/// Gives a rank of a monitored barrier time beyond its limit: rank 0 to name the missing ranks, which the engine could not, and the
/// others to get its answer, since they may have begun earlier.
void give_grace(Op& op, int rank);

void begin_monitored_barrier(Call& call, const Communicator& communicator);

/// Throws Failure naming the ranks that have not come, when the time of a monitored barrier is over.
void watch_monitored_barrier(const Call& call, const Communicator& communicator);

}  // namespace c10d::mpi_shim
