// An op in flight on the software device.
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

/// What is known of it apart from the Op, which belongs to the engine. From its start until its end only the thread of
/// the machine uses it.
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

  /// Completes when all ranks have arrived, or one never will.
  EventPtr matched = std::make_shared<Event>();
  /// In the stream of the op, after its result was written.
  EventPtr done;
  StreamPtr stream;

  /// What it sends or reduces: copied when the device reaches it.
  std::vector<Bytes> contribution;
  /// What is to be written to its outputs, once all ranks have arrived.
  std::vector<Bytes> results;
  /// Of a window: the addresses of all ranks' parts.
  std::vector<uint64_t> addresses;
  bool is_matched = false;  // the mutex of the fabric guards it

  Clock::time_point started;
  Clock::time_point finished;
  std::optional<Failure> failure;
  int32_t source = -1;
};
using FlightPtr = std::shared_ptr<Flight>;

inline bool is_message(const Flight& flight) { return is_point_to_point(flight.request.opcode); }
/// Whether it involves this rank only.
inline bool is_local(const Flight& flight) { return !is_message(flight) && !is_collective(flight.request.opcode); }

}  // namespace c10d::softdev
