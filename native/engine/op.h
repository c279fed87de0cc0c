// One submitted op: a copy of the request with its tables, and its result.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "c10d.h"

namespace c10d {

using Clock = std::chrono::steady_clock;

/// Point in time `ms` milliseconds from now; Clock::time_point::max() for infinity and anything beyond the clock.
Clock::time_point deadline_after(double ms);

constexpr bool is_point_to_point(uint32_t opcode) {
  return opcode == C10D_OP_SEND || opcode == C10D_OP_RECV || opcode == C10D_OP_RECV_ANY_SOURCE;
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
    done,
  };
  Phase phase = Phase::queued;
  /// A thread in wait() will take the result, so no event is needed.
  bool awaited = false;
  /// The host was notified of the end while native code may still touch the buffers. Its result is the group's cause of
  /// failure, since the library may still write to the fields below.
  bool pinned = false;
  /// The host has its result; only the text of the error is left to take.
  bool reported = false;
  bool text_taken = false;

  int32_t status = C10D_OK;
  int32_t peer = -1;
  std::string error;

  /// What inputs and outputs are copies in, if they are, and where the outputs belong.
  std::unique_ptr<char[]> copies;
  size_t copies_capacity = 0;
  std::vector<c10d_buffer> copied_outputs;

  void* output(size_t i = 0) const { return reinterpret_cast<void*>(outputs[i].address); }
  const void* input(size_t i = 0) const { return reinterpret_cast<const void*>(inputs[i].address); }

  /// Whether there is a result for the host.
  bool ended() const { return phase == Phase::done || pinned; }
  /// Whether progress() brings its end nearer: its own, or that of an op it queues behind.
  bool may_be_driven() const {
    return !pinned && (phase == Phase::pending || phase == Phase::starting || phase == Phase::queued);
  }
  /// Starts at submit and counts neither for the concurrency limit nor for fences.
  bool point_to_point() const { return is_point_to_point(request.opcode); }

  /// Takes over a request of this rank; throws Failure if it is malformed.
  void assign(const c10d_op& source, const void* input0, void* output0, int rank, int world_size);
  /// From here on the op works on copies of its buffers; called by the host's thread.
  void work_on_copies();
  /// Brings the results of an op that has ended well to where they belong; called by the host's thread, whose memory that is.
  void copy_back();
  /// Leaves the copies to a library that may go on with them until the process ends.
  void leave_copies();
};

}  // namespace c10d
