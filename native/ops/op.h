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
/// The same for the time limit in a record, where 0 means none.
inline Clock::time_point deadline_of_limit(double ms) {
  return ms == 0 ? Clock::time_point::max() : deadline_after(ms);
}

/// CLOCK_MONOTONIC in nanoseconds; 0 if the time is not set.
inline uint64_t nanoseconds_of(Clock::time_point time) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

constexpr bool is_point_to_point(uint32_t opcode) {
  return opcode == C10D_OP_SEND || opcode == C10D_OP_RECV || opcode == C10D_OP_RECV_ANY_SOURCE;
}

/// Whether it is a c10d_service rather than an op of c10d.
constexpr bool is_service(uint32_t opcode) {
  return opcode >= C10D_SERVICE_REGISTER_MEMORY && opcode <= C10D_SERVICE_CLOSE_WINDOW;
}

/// Whether all ranks call it, in the same order.
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
  /// Of a collective: its place among the collectives of the group, from 1. Refused ones have one too: ranks that all
  /// refused a call stay in step, and a rank that refused it alone does not.
  uint64_t number = 0;
  /// For the transport: what number() stored, e.g. a tag.
  uint64_t ticket = 0;
  /// How many of the ops behind it belong to the same batch, if batches are started as one.
  uint32_t followers = 0;
  /// In the lane of ops that do not queue behind collectives.
  bool direct = false;
  /// With C10D_FLAG_TIMES: when the engine passed it to the library.
  Clock::time_point issued;
  /// The same: when the library got it, and when the library finished it. A transport that knows them more exactly sets
  /// them.
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
    /// progress() ended it before start() returned.
    overtaken,
    /// It has failed, but the host is not notified yet: ops before it are still in flight, or the cause is not known.
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

  /// How it failed, if it did.
  std::optional<Failure> failure;
  /// Of a recv that succeeded: the rank that it came from.
  int32_t source = -1;

  int32_t status() const { return failure ? failure->status() : C10D_OK; }
  int32_t peer() const { return failure ? failure->peer() : source; }

  /// The memory of the copies, if inputs and outputs are copies; and the host's outputs.
  std::unique_ptr<char[]> copies;
  size_t copies_capacity = 0;
  std::vector<c10d_buffer> copied_outputs;

  void* output(size_t i = 0) const { return reinterpret_cast<void*>(outputs[i].address); }
  const void* input(size_t i = 0) const { return reinterpret_cast<const void*>(inputs[i].address); }

  /// Whether there is a result for the host.
  bool ended() const { return phase == Phase::done || pinned; }
  /// Whether progress() brings its end nearer, by driving it or an op before it.
  bool may_be_driven() const {
    return !pinned &&
           (phase == Phase::pending || phase == Phase::starting || phase == Phase::queued || phase == Phase::held);
  }
  bool point_to_point() const { return is_point_to_point(request.opcode); }

  /// Copies the record of a request of this rank, of any size. Throws Failure if it is malformed.
  void assign(const c10d_op& record, const void* input0, void* output0, int rank, int world_size, const Device& device);
  /// Replaces its buffers by copies; called by the host's thread.
  void work_on_copies();
  /// Copies the results of an op that succeeded to the host's outputs; called by the host's thread, which owns that
  /// memory.
  void copy_back();
  /// Leaves the copies to a library that may use them until the process ends.
  void leave_copies();
};

}  // namespace c10d
