// An NCCL communicator.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>

#include "communicator_config.h"
#include "engine/transport.h"
#include "library.h"

namespace c10d::nccl_shim {

/// NCCL allows one thread in a communicator at a time, and that thread calls nothing else while the communicator is "in
/// progress", as a non-blocking one often is: ready() says when that is over. All calls come from the native thread of
/// the group, but for those of a split, which come from that of the new group: from lend() until that has what it needs,
/// may_be_called() is false.
class Communicator {
 public:
  Communicator(const Config& config, const Mutation& mutation);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// Makes it together with the other ranks. Throws Failure.
  void connect(const Config& config, Exchange& exchange);
  /// The same from a parent's that was lent to it, and gives that back; empty with a negative color. Throws Failure.
  void connect_split(const Config& config, Communicator& parent, int32_t color);

  NcclComm get() const { return comm_; }
  explicit operator bool() const { return comm_ != nullptr; }
  /// Reserves it for a split, while the group has nothing in flight: what is submitted from now on comes after that. From
  /// any thread. Throws Failure if a split has it already.
  void lend(Clock::time_point deadline);
  /// From any thread.
  void give_back() { borrowed_.store(false, std::memory_order_release); }
  /// Whether a split is using it.
  bool borrowed() const { return borrowed_.load(std::memory_order_acquire); }
  /// Whether calls are possible. Throws Failure once a split was given up while NCCL was at it.
  bool may_be_called();
  /// Throws Failure if it has failed, or if a split is overdue.
  void look();

  /// Whether it is no longer in progress. Throws Failure if it has failed.
  bool ready();
  /// connect() returns soon. From any thread.
  void interrupt() { interrupted_.store(true, std::memory_order_release); }
  bool interrupted() const { return interrupted_.load(std::memory_order_acquire); }
  /// While the group is made. Throws Failure if it is interrupted or the time is up.
  void require_wanted(const Config& config, const char* what) const;
  /// Ends what is in flight; afterwards there is no communicator.
  void abort();
  /// Ends it in agreement with the other ranks, or by abort() if they take too long.
  void finalize();

 private:
  /// Waits until this communicator is no longer in progress. Throws Failure.
  void await_ready(const Config& config, const char* what);

  const NcclApi& nccl_;
  CommunicatorConfig config_;
  const Mutation& mutation_;
  std::atomic<NcclComm> comm_{nullptr};
  std::atomic<bool> interrupted_{false};
  /// Held by lend(), and by the calls that are made without an op in flight.
  std::mutex lending_;
  Clock::time_point lent_until_;
  std::atomic<bool> borrowed_{false};
  /// Of a split that was given up while NCCL was at it: other ranks may be in it, so no call would be at the same place on
  /// all of them. Written before it is given back.
  std::optional<Failure> spoilt_;
};

}  // namespace c10d::nccl_shim
