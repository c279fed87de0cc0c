// What the transport knows of an op from number() until its end.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "device_context.h"
#include "ops/op.h"

namespace c10d::nccl_shim {

struct Flight {
  /// Recorded in the stream of the op at its submission.
  CuEvent input = nullptr;
  bool has_input = false;
  CuResult input_result = CuResult::success;
  /// Its place among the ops of all groups on the device.
  uint64_t turn = 0;
  /// Recorded behind the op in the group's stream, once it was issued; nullptr before, and when it has ended.
  CuEvent end = nullptr;
};

/// Flights by Op::ticket. The mutex guards what is shared by the host's thread, in number() and synchronize(), with the
/// native thread. Events are reused.
class FlightTable {
 public:
  explicit FlightTable(const DeviceContext& context) : context_(context) {}
  ~FlightTable();
  FlightTable(const FlightTable&) = delete;
  FlightTable& operator=(const FlightTable&) = delete;

  std::mutex& mutex() { return mutex_; }

  /// With the mutex locked.
  Flight& add(Op& op);
  /// It stays at its address until remove().
  Flight& of(const Op& op) { return flights_[op.ticket - 1]; }
  void remove(const Op& op);

 private:
  const DeviceContext& context_;
  std::mutex mutex_;
  std::deque<Flight> flights_;
  std::vector<uint64_t> free_;
};

/// Events for one thread.
class EventPool {
 public:
  explicit EventPool(const DeviceContext& context) : context_(context) {}
  ~EventPool();
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;

  /// The context must be current. Throws Failure.
  CuEvent take();
  void give_back(CuEvent event) { free_.push_back(event); }

 private:
  const DeviceContext& context_;
  std::vector<CuEvent> all_;
  std::vector<CuEvent> free_;
};

}  // namespace c10d::nccl_shim
