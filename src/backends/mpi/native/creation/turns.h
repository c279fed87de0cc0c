// Decides which group of this process makes its communicator next.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "creation/communicator_spec.h"
#include "ops/op.h"

namespace c10d::mpi_shim {

/// Turns in which communicators are made, one at a time, as some libraries require. Turns are taken in the order in
/// which the host makes groups, which is the same on all ranks.
///
/// MPI_Comm_create_group waits for all members and cannot be cancelled, so either all of them must call it or none. One
/// value in the group's store decides that, and its first writer wins: rank 0, when all have arrived, or a rank that
/// gives up. A rank that times out before it knows the value, for instance because it was stopped, must not simply
/// leave, since the others may be in MPI by then. Its turn stays undecided until its host has read the value, at any
/// later time. If the others are in MPI, the rank joins them there, only to leave the group again.
class Turns {
 public:
  /// What the ranks decided: the number of the group, or 0 if one has given up.
  using Decision = uint64_t;
  /// The group that a turn waits for; its name and the missing ranks may be unknown.
  struct Obstacle {
    std::string group;
    /// The ranks that have not joined that group, by their ranks in it and in MPI_COMM_WORLD.
    std::vector<int> missing;
    std::vector<int> missing_in_world;
    /// When this process gives up that group.
    Clock::time_point deadline = Clock::time_point::max();
  };

  uint64_t take();
  /// Assigns the turn to this group, which is given up here at the deadline.
  void enter(uint64_t turn, std::shared_ptr<const CommunicatorSpec> spec, Clock::time_point deadline);
  /// Waits for a turn. `look` is called now and then with what the turn waits for, and throws to end it.
  void await(uint64_t turn, const std::function<void(const Obstacle&)>& look);
  void end(uint64_t turn);
  /// Records the ranks of the group that have not joined it, as far as this one knows before settle().
  void record_missing(uint64_t turn, const std::vector<int>& missing);
  /// Leaves a turn to settle(), or returns the decision if settle() was called before. `limit`: how long the host may
  /// take; it may have exited.
  std::optional<Decision> leave_undecided(uint64_t turn, Clock::duration limit);
  /// The decision, from the host after a group could not be made. Returns the spec if the turn was left undecided; then
  /// the caller has to end the turn. `missing`: ranks of the group that have not joined it.
  std::shared_ptr<const CommunicatorSpec> settle(uint64_t turn, Decision decision, const std::vector<int>& missing);

 private:
  struct Turn {
    std::shared_ptr<const CommunicatorSpec> spec;
    Clock::time_point deadline = Clock::time_point::max();
    std::vector<int> missing;
    std::optional<Decision> decision;
    bool undecided = false;
    Clock::time_point undecided_until = Clock::time_point::max();
  };

  void erase(uint64_t turn);
  Obstacle first_obstacle() const;

  std::mutex mutex_;
  std::condition_variable ended_;
  uint64_t next_ = 0;
  /// The turns that have not ended.
  std::map<uint64_t, Turn> turns_;
};

}  // namespace c10d::mpi_shim
