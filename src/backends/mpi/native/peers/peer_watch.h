// What the other members of a group have said about leaving it or its failure, and which ops cannot end because of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "call.h"
#include "ops/failure.h"
#include "ops/op.h"
#include "peers/membership.h"
#include "process/runtime.h"

namespace c10d::mpi_shim {

/// Used under the transport's lock and within Runtime::call(), except for has_failure().
class PeerWatch {
 public:
  PeerWatch(std::shared_ptr<Membership> self, int rank, int size)
      : self_(std::move(self)), rank_(rank), size_(size), departures_(static_cast<size_t>(size)) {}
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  /// Called for every poll of the ops: polls for messages now and then, and handles those that were received.
  void poll() {
    if (polls_++ % kPollsPerMessagePoll == 0) Runtime::get().messenger().poll();
    handle_messages();
  }
  /// Called before an op starts: polls for messages if it has not done so for a while.
  void poll_before_start();

  /// The first failure that another rank has reported.
  const std::optional<Failure>& failure() const { return failure_; }
  /// The same, from any thread.
  bool has_failure() const { return has_failure_; }

  /// Whether any rank has left.
  bool any_left() const { return any_left_; }
  /// The rank that left and so keeps a message from ending; -1 if there is none.
  int lost_peer(const Op& op) const;
  /// That a rank has left, as a failure.
  Failure left(int rank) const;
  /// Throws Failure, which fails the group, if an op waits for a rank that has left. A receive checks once more whether
  /// its message has arrived.
  void check(const std::vector<std::unique_ptr<Call>>& calls) const;

 private:
  static constexpr uint64_t kPollsPerMessagePoll = 16;

  /// What is known of a rank that has left.
  struct Departure {
    PeerMessage::Kind kind;
    uint64_t collectives;
    Clock::time_point received_at;
    uint64_t received_in_poll;
  };

  void handle_messages();
  Failure failure_of(const PeerMessage& message) const;
  bool is_gone(int rank) const;

  const std::shared_ptr<Membership> self_;
  const int rank_;
  const int size_;
  size_t seen_messages_ = 0;
  uint64_t polls_ = 0;
  Clock::time_point next_poll_before_start_;
  std::optional<Failure> failure_;
  std::atomic<bool> has_failure_{false};
  std::vector<std::optional<Departure>> departures_;
  bool any_left_ = false;
};

}  // namespace c10d::mpi_shim
