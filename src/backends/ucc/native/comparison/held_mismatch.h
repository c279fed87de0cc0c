// A rank that finds a mismatch may still be needed by the others of its host: what it has sent in the collectives before is not
// always on its way when UCC reports them as done, and goes on only when the rank calls UCC again.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "engine/failure.h"
#include "engine/op.h"

namespace c10d::ucc_shim {

/// The first mismatch that is known, and whether the engine knows it too, which fails the group then.
class HeldMismatch {
 public:
  /// How long the failure of the group is put off at most, and how long before an op runs out of time that ends.
  static constexpr std::chrono::milliseconds kLimit{1'000};
  static constexpr std::chrono::milliseconds kBeforeDeadline{100};

  /// Takes note of a collective that this rank has come to.
  void enter(const Op& op) {
    number_ = op.number;
    ticket_ = op.ticket;
  }

  /// Takes note of a mismatch of a collective.
  void note(const Failure& failure) {
    if (!failure_ || failure.collective() < failure_->collective()) failure_ = failure;
  }
  bool known() const { return failure_.has_value(); }
  const Failure& failure() const { return *failure_; }

  /// The engine is not told yet.
  void hide() {
    hidden_ = true;
    put_off();
  }
  bool hidden() const { return hidden_; }
  void tell() {
    hidden_ = false;
    told_ = true;
  }
  bool told() const { return told_; }

  void put_off() { until_ = Clock::now() + kLimit; }
  /// Whether the group has to fail now, if the first op to run out of time does so at `deadline`.
  bool is_due(Clock::time_point deadline) const { return Clock::now() >= std::min(until_, deadline - kBeforeDeadline); }

  /// The last collective before it that this rank has come to; 0 if there is none. Or one further back, where calls were
  /// refused since.
  uint64_t ticket_before() const {
    const uint64_t since = number_ < failure_->collective() ? 0 : number_ - failure_->collective() + 1;
    return ticket_ - std::min(ticket_, since);
  }

 private:
  std::optional<Failure> failure_;
  Clock::time_point until_;
  bool hidden_ = false;
  bool told_ = false;
  uint64_t number_ = 0;
  uint64_t ticket_ = 0;
};

}  // namespace c10d::ucc_shim
