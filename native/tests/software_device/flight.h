// An op on its way through the software device.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ops/call_text.h"
#include "ops/op.h"
#include "software_device/machine.h"

namespace c10d::softdev {

using Bytes = std::vector<uint8_t>;

/// What is known of it apart from the Op, which is the engine's. From its start until its end the thread of the machine
/// alone touches it.

struct Flight {
  int32_t rank = 0;
  uint64_t id = 0;
  /// Of a collective: its place among those that have started on this rank.
  uint64_t turn = 0;
  c10d_op request{};
  std::vector<c10d_buffer> inputs;
  std::vector<c10d_buffer> outputs;
  std::vector<uint64_t> input_splits;
  std::vector<uint64_t> output_splits;
  Call call;

  /// In the stream that the op was given, if it was given one: what was in it then is done.
  MomentPtr given;
  /// All ranks have come, or never will.
  MomentPtr met = std::make_shared<Moment>();
  /// In the stream of the op: its result is there.
  MomentPtr done;
  StreamPtr stream;

  /// What it sends, or reduces: taken when the device gets to it.
  std::vector<Bytes> contribution;
  /// What is to be written to its outputs, once all ranks have met.
  std::vector<Bytes> results;
  /// Of a window: where the ranks have their parts.
  std::vector<uint64_t> addresses;
  bool has_met = false;  // the mutex of the fabric guards it

  Clock::time_point started;
  Clock::time_point finished;
  std::optional<Failure> failure;
  int32_t source = -1;
};
using FlightPtr = std::shared_ptr<Flight>;

inline bool is_message(const Flight& flight) { return is_point_to_point(flight.request.opcode); }
/// Whether it concerns this rank alone.
inline bool is_local(const Flight& flight) { return !is_message(flight) && !is_collective(flight.request.opcode); }

}  // namespace c10d::softdev
