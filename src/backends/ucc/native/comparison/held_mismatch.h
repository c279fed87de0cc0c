// A rank that finds a mismatch may still be needed by the others of its host: data of earlier collectives is not always
// sent when UCC reports them as done. The rest is sent only when the rank calls UCC again.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "ops/failure.h"
#include "ops/op.h"

namespace c10d::ucc_shim {

/// The first known mismatch, and whether it was reported to the engine, which then fails the group.
class HeldMismatch {
 public:
  /// The longest time for which the failure of the group is postponed, and how long before the deadline of an op that
  /// ends. A slow machine takes more than a second for what the sockets hold.
  static constexpr std::chrono::milliseconds kLimit{3'000};
  static constexpr std::chrono::milliseconds kBeforeDeadline{100};

  /// Records a collective that this rank has reached.
  void enter(const Op& op) {
    number_ = op.number;
    ticket_ = op.ticket;
  }

  /// Records a mismatch of a collective.
  void record(const Failure& failure) {
    if (!failure_ || failure.collective() < failure_->collective()) failure_ = failure;
  }
  bool known() const { return failure_.has_value(); }
  const Failure& failure() const { return *failure_; }

  /// Does not report it to the engine yet.
  void hold() {
    held_ = true;
    postpone();
  }
  bool held() const { return held_; }
  void report() {
    held_ = false;
    reported_ = true;
  }
  bool reported() const { return reported_; }

  void postpone() { until_ = Clock::now() + kLimit; }
  /// Whether the group has to fail now; `deadline` is the earliest deadline of an op.
  bool is_due(Clock::time_point deadline) const { return Clock::now() >= std::min(until_, deadline - kBeforeDeadline); }

  /// The last collective before the mismatch that this rank has reached; 0 if there is none. It is an earlier one if
  /// calls were refused since.
  uint64_t ticket_before() const {
    const uint64_t since = number_ < failure_->collective() ? 0 : number_ - failure_->collective() + 1;
    return ticket_ - std::min(ticket_, since);
  }

 private:
  std::optional<Failure> failure_;
  Clock::time_point until_;
  bool held_ = false;
  bool reported_ = false;
  uint64_t number_ = 0;
  uint64_t ticket_ = 0;
};

}  // namespace c10d::ucc_shim
