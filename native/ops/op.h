// One submitted op: a copy of the request with its tables, and its result.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "c10d.h"
#include "ops/device.h"
#include "ops/failure.h"

namespace c10d {

using Clock = std::chrono::steady_clock;

/// Point in time `ms` milliseconds from now; Clock::time_point::max() for infinity and anything beyond the clock.
Clock::time_point deadline_after(double ms);
/// The same of a limit in a record, where 0 is none.
inline Clock::time_point deadline_of_limit(double ms) {
  return ms == 0 ? Clock::time_point::max() : deadline_after(ms);
}

/// CLOCK_MONOTONIC in nanoseconds; 0 for no time.
inline uint64_t nanoseconds_of(Clock::time_point time) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

constexpr bool is_point_to_point(uint32_t opcode) {
  return opcode == C10D_OP_SEND || opcode == C10D_OP_RECV || opcode == C10D_OP_RECV_ANY_SOURCE;
}

/// What is done to a group in the order of its ops but is no op of c10d.
constexpr bool is_service(uint32_t opcode) {
  return opcode >= C10D_SERVICE_REGISTER_MEMORY && opcode <= C10D_SERVICE_CLOSE_WINDOW;
}

/// Whether all ranks make it, in the same order.
constexpr bool is_collective(uint32_t opcode) {
  return !is_point_to_point(opcode) && opcode != C10D_SERVICE_REGISTER_MEMORY &&
         opcode != C10D_SERVICE_DEREGISTER_MEMORY;
}

struct Op {
  uint64_t id = 0;
  c10d_op request{};
  std::vector<c10d_buffer> inputs;
  std::vector<c10d_buffer> outputs;
  std::vector<uint64_t> input_splits;
  std::vector<uint64_t> output_splits;
  Clock::time_point deadline;
  /// Of a collective: its place among the calls of the group, from 1. Those that were refused have one too, so that ranks which
  /// have all refused a call stay in step, and one that did so alone does not.
  uint64_t number = 0;
  /// For the transport: whatever number() gave it, e.g. a tag.
  uint64_t ticket = 0;
  /// How many of the ops behind it belong to the same batch, where those are begun as one.
  uint32_t followers = 0;
  /// In the lane of ops that do not queue behind collectives.
  bool direct = false;
  /// With C10D_FLAG_TIMES: when the engine gave it to the library.
  Clock::time_point begun;
  /// The same: when the library got it, and when it was through with it. A transport that knows better sets them.
  Clock::time_point started;
  Clock::time_point finished;

  enum class Phase : uint8_t {
    queued,
    /// A thread is in start().
    starting,
    /// Waits for a thread that calls run_blocking().
    ready,
    /// A thread is in run_blocking().
    running,
    /// progress() will end it.
    pending,
    /// progress() has ended it before start() has returned.
    overtaken,
    /// Its ranks have called different things, which is for the host to know when the collectives before it have ended.
    held,
    done,
  };
  Phase phase = Phase::queued;
  /// A thread in wait() will take the result, so no event is needed.
  bool awaited = false;
  /// The host was notified of the end while native code may still touch the buffers. Its result is the group's cause of
  /// failure, since the library may still write to the fields below.
  bool pinned = false;
  /// The host has its result; only the failure is left to take.
  bool reported = false;
  bool failure_taken = false;

  /// How it has failed, if it has.
  std::optional<Failure> failure;
  /// Of a recv that has ended well: the rank that it came from.
  int32_t source = -1;

  int32_t status() const { return failure ? failure->status() : C10D_OK; }
  int32_t peer() const { return failure ? failure->peer() : source; }

  /// What inputs and outputs are copies in, if they are, and where the outputs belong.
  std::unique_ptr<char[]> copies;
  size_t copies_capacity = 0;
  std::vector<c10d_buffer> copied_outputs;

  void* output(size_t i = 0) const { return reinterpret_cast<void*>(outputs[i].address); }
  const void* input(size_t i = 0) const { return reinterpret_cast<const void*>(inputs[i].address); }

  /// Whether there is a result for the host.
  bool ended() const { return phase == Phase::done || pinned; }
  /// Whether progress() brings its end nearer: its own, or that of an op before it.
  bool may_be_driven() const {
    return !pinned &&
           (phase == Phase::pending || phase == Phase::starting || phase == Phase::queued || phase == Phase::held);
  }
  bool point_to_point() const { return is_point_to_point(request.opcode); }

  /// Takes over a request of this rank, of any size, in a group of `world_size` on `device`; throws Failure if it is malformed.
  void assign(const c10d_op& record, const void* input0, void* output0, int rank, int world_size, const Device& device);
  /// From here on the op works on copies of its buffers; called by the host's thread.
  void work_on_copies();
  /// Brings the results of an op that has ended well to where they belong; called by the host's thread, whose memory that is.
  void copy_back();
  /// Leaves the copies to a library that may go on with them until the process ends.
  void leave_copies();
};

}  // namespace c10d
