// Which group of this process gets its communicator next.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/op.h"
#include "peers/peer_messenger.h"

namespace c10d::mpi_shim {

/// What the communicator of a group is made of. It outlives the transport, since a rank may have to take part in making one that
/// it does not want any more: see Turns.
struct Formation {
  std::string group;
  /// In MPI_COMM_WORLD.
  std::vector<int> ranks;
  std::shared_ptr<Membership> self;

  /// Waits in MPI until every member does the same. `number`: that of the group, 0 if the members have not agreed on one. For
  /// Runtime::call(); throws Failure.
  MPI_Comm make(uint64_t number) const;
};

/// Turns for the making of communicators, one at a time, which some libraries need: a turn is taken in the order in which the host
/// makes groups, which is the same on all ranks.
///
/// MPI waits in MPI_Comm_create_group for all members and cannot give that up, so either all of them must call it or none. That
/// is decided by one value in the group's store whose first writer wins: rank 0, when all have come, or a rank that gives up. A
/// rank whose time is over before it knows the value, having stood still say, may not just go away: the others may be in MPI by
/// then. Its turn goes on, undecided, until its host has read the value, which it can do at any time, and where they are in MPI
/// the rank joins them there, only to leave the group again.
class Turns {
 public:
  /// How the ranks have decided: the number of the group, or 0 if one has given up.
  using Decision = uint64_t;
  /// What keeps a turn from coming; either may be unknown.
  struct Obstacle {
    std::string group;
    /// Who has not come to that group, by ranks in it and in MPI_COMM_WORLD.
    std::vector<int> missing;
    std::vector<int> missing_in_world;
    /// When this process gives that group up.
    Clock::time_point deadline = Clock::time_point::max();
  };

  uint64_t take();
  /// The turn is that of this group, which is given up here at the deadline.
  void enter(uint64_t turn, std::shared_ptr<const Formation> formation, Clock::time_point deadline);
  /// Waits for a turn. `look` is called now and then with what is in the way, and throws to end it.
  void await(uint64_t turn, const std::function<void(const Obstacle&)>& look);
  void end(uint64_t turn);
  /// Ranks in the group that have not come to it, as far as this one knows by itself before settle().
  void note_missing(uint64_t turn, const std::vector<int>& missing);
  /// Leaves a turn to settle(), or gives the decision that was told before. `limit`: how long the host may take, which may have
  /// gone.
  std::optional<Decision> leave_undecided(uint64_t turn, Clock::duration limit);
  /// The host's word after a group could not be made. Gives the formation if the turn was left undecided; then it is the caller's
  /// to end. `missing`: ranks in the group that have not come to it.
  std::shared_ptr<const Formation> settle(uint64_t turn, Decision decision, const std::vector<int>& missing);

 private:
  struct Turn {
    std::shared_ptr<const Formation> formation;
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
  /// Those that have not ended.
  std::map<uint64_t, Turn> turns_;
};

}  // namespace c10d::mpi_shim
