// The making of a group's communicator, from its turn to the end.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "creation/communicator_spec.h"
#include "creation/pending_communicator.h"
#include "creation/turns.h"
#include "engine/transport.h"

namespace c10d::mpi_shim {

class GroupCreation {
 public:
  /// Takes a turn, unless the host has. Throws Failure.
  GroupCreation(const Config& config, std::shared_ptr<const CommunicatorSpec> spec);
  /// Ends the turn if run() was never called.
  ~GroupCreation();
  GroupCreation(const GroupCreation&) = delete;
  GroupCreation& operator=(const GroupCreation&) = delete;

  /// Makes the communicator, passes it to `accept`, and ends the turn or leaves that to the host. `throw_if_aborted()`
  /// is called while it waits. Throws Failure, also that of `accept`.
  void run(Exchange& exchange, const std::function<void()>& throw_if_aborted,
           const std::function<void(MPI_Comm)>& accept);
  /// Makes run() call `throw_if_aborted()` now. From any thread.
  void wake();

  /// Whether some ranks of the job are other programs.
  bool mixed() const { return mixed_; }
  /// Whether the members agreed on a number for the group, and so exchange messages.
  bool joined() const { return joined_; }

 private:
  void await_turn(const std::function<void()>& throw_if_aborted);
  Failure out_of_turn(const Turns::Obstacle& obstacle) const;
  MPI_Comm make(Exchange& exchange, const std::function<void()>& throw_if_aborted);
  uint64_t agree_on_number(Exchange& exchange);
  MPI_Comm await_communicator(Exchange& exchange, uint64_t number, const std::function<void()>& throw_if_aborted);

  const Config& config_;
  const std::shared_ptr<const CommunicatorSpec> spec_;
  const bool mixed_;
  const bool of_worker_;
  bool host_settles_ = false;
  uint64_t turn_ = 0;
  bool turn_over_ = false;
  bool joined_ = false;
  /// The others may make the communicator, as far as this rank knows.
  bool undecided_ = false;

  std::mutex mutex_;
  std::shared_ptr<PendingCommunicator> pending_;
};

}  // namespace c10d::mpi_shim
