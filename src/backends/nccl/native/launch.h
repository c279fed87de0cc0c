// The ops of one submission on their way into the group's stream.
#pragma once

#include <optional>
#include <vector>

#include "flight.h"
#include "op_calls.h"
#include "ops/failure.h"

namespace c10d::nccl_shim {

struct Launch {
  enum class State {
    /// Waits for its turn, or for the communicator.
    queued,
    /// NCCL has got it and is in progress: what follows in the stream cannot be put there yet.
    calling,
    /// All of it is in the stream, up to the event `end`; or it has failed.
    issued,
  };

  std::vector<Op*> ops;
  /// Of each.
  std::vector<Flight*> flights;
  State state = State::queued;
  Clock::time_point queued_at;
  Clock::time_point called_at;
  /// Whether something of it may be in the stream.
  bool touches_stream = false;
  CuAddress scratch = 0;
  MadeOps made;
  /// Of timed ops: what precedes them in the stream has ended.
  CuEvent begin = nullptr;
  bool has_begun = false;
  CuEvent end = nullptr;
  std::optional<Failure> failure;

  void reset() {
    ops.clear();
    flights.clear();
    state = State::queued;
    scratch = 0;
    made.clear();
    begin = end = nullptr;
    has_begun = false;
    touches_stream = false;
    failure.reset();
  }
};

}  // namespace c10d::nccl_shim
