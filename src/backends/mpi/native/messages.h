// Point-to-point ops, and the monitored barrier, which consists of messages.
#pragma once

#include <cstdint>
#include <unordered_set>

#include "call.h"
#include "ops/failure.h"

namespace c10d::mpi_shim {

/// Begins to send; a receive waits for match_message().
void begin_message(Call& call, const Communicator& communicator);

/// Earlier receives that still wait. A later receive must not take a message that may be for one of them.
class Waiting {
 public:
  void add(const Op& op);
  void clear();
  /// Whether the next message from `source`, or from any rank, may be for this receive.
  bool may_take(const Op& op, int source) const;

 private:
  /// By tag and source, and by tag alone, since many may wait.
  std::unordered_set<uint64_t> from_one_;
  std::unordered_set<uint32_t> tags_from_one_;
  std::unordered_set<uint32_t> tags_from_any_;
};

/// Begins to receive if the message has arrived and no earlier receive waits for it. Its size is not known before, and
/// Open MPI writes beyond the buffer if a large message does not fit. Throws Failure if the size differs from that of
/// the buffer.
bool match_message(Call& call, const Communicator& communicator, const Waiting& earlier);

/// Sets the source of a message, if the op is a receive; returns whether it is.
bool end_message(Op& op, const MPI_Status& status);

/// Extends the deadline of a monitored barrier: for rank 0 so that it can name the missing ranks, which the engine
/// could not, and for the others so that they get its answer, since they may have begun earlier.
void give_grace(Op& op, int rank);

void begin_monitored_barrier(Call& call, const Communicator& communicator);

/// Throws Failure naming the missing ranks when a monitored barrier has timed out.
void watch_monitored_barrier(const Call& call, const Communicator& communicator);

}  // namespace c10d::mpi_shim
