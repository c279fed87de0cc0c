// Which peers were lost and why, so that an op can fail with the cause.
#pragma once

#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ops/failure.h"

namespace c10d::gloo_shim {

/// Peers whose connections broke, each with its exception. An op that fails with the same exception failed because of
/// that peer.
class LossRecord {
 public:
  /// Calls `on_reset` when a peer resets its connection. A rank does that when its group fails, so that ranks that are
  /// idle, or wait for another rank, fail too. A rank that leaves cleanly closes its connections instead.
  void watch(std::function<void(const Failure&)> on_reset);
  void add(int rank, const std::exception_ptr& error);
  /// Calls of a collective differ, or the sizes of a message, as this rank or another one found: from now on that is why
  /// connections break.
  struct Mismatch {
    Failure failure;
    /// One of the two ranks has ended more collectives than the other, so both may call the same as the rest.
    bool apart;
  };
  void add_mismatch(const Mismatch& mismatch);
  /// The first mismatch in the order of collectives and then of the ranks that it names, so that all ranks report the
  /// same one. Those of messages come first, those that are apart last.
  std::optional<Mismatch> mismatch() const;
  /// Returns when the rank is lost, when a mismatch is known, or at the deadline.
  void await(int rank, std::chrono::steady_clock::time_point deadline) const;
  /// The failure for an op's exception. A collective needs all ranks, so it fails because of the first loss.
  Failure explain(const std::string& what, bool collective) const;
  /// The failure of a collective whose direct connection to `rank` broke with `what`: because of the first loss if
  /// there is one, otherwise because of this one.
  Failure explain_direct(int rank, const std::string& what) const;
  /// The exception of the last loss, once that many peers are lost.
  std::optional<std::string> when_all(int peers) const;

 private:
  struct Loss {
    int rank;
    std::string what;
    std::chrono::steady_clock::time_point at;
  };
  Failure describe(const Loss& loss) const;
  /// A rank may reset its connections only because of a rank that all have just lost. A rank that left long before is
  /// not the cause.
  const Loss& cause_of(const Loss& loss) const;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<Loss> losses_;
  std::optional<Mismatch> mismatch_;
  std::function<void(const Failure&)> on_reset_;
};

}  // namespace c10d::gloo_shim
