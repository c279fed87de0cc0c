#include "flight.h"

namespace c10d::nccl_shim {

FlightTable::~FlightTable() {
  const ContextScope scope(context_);
  for (const auto& flight : flights_) {
    if (flight.input != nullptr) load_library().cuda.event_destroy(flight.input);
  }
}

Flight& FlightTable::add(Op& op) {
  if (free_.empty()) {
    flights_.emplace_back();
    free_.reserve(flights_.size());
    op.ticket = flights_.size();
  } else {
    op.ticket = free_.back();
    free_.pop_back();
  }
  Flight& flight = of(op);
  flight.has_input = false;
  flight.input_result = CuResult::success;
  flight.turn = 0;
  flight.end = nullptr;
  return flight;
}

void FlightTable::remove(const Op& op) {
  of(op).end = nullptr;
  free_.push_back(op.ticket);
}

EventPool::~EventPool() {
  const ContextScope scope(context_);
  for (const CuEvent event : all_) load_library().cuda.event_destroy(event);
}

CuEvent EventPool::take() {
  if (free_.empty()) {
    CuEvent event = nullptr;
    require(load_library().cuda.event_create(&event, kCuEventDisableTiming), "cuEventCreate");
    all_.push_back(event);
    return event;
  }
  const CuEvent event = free_.back();
  free_.pop_back();
  return event;
}

}  // namespace c10d::nccl_shim
