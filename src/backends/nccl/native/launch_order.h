// The order in which groups on one device launch their ops.
//
// Each group has a thread and a communicator of its own. On a GPU, collectives of two communicators may wait for each
// other's space, so all ranks have to launch them in the same order: that of their submission. So an op takes a turn
// when it is submitted, and is launched when the turns before it were given back. An op that is not launched soon, such
// as one that nobody waits for yet, gives up its place: this order prevents a rare deadlock and must not cause one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>

namespace c10d::nccl_shim {

class LaunchOrder {
 public:
  using Clock = std::chrono::steady_clock;

  /// That of a device, for the life of the process.
  static LaunchOrder& of(int device);

  /// A group's place in the order.
  class Member {
   public:
    explicit Member(LaunchOrder& order) : order_(order) { order_.members_++; }
    ~Member() {
      leave();
      order_.members_--;
    }
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;

    /// The next turn; 0, which waits for nothing, while there is no other group.
    uint64_t take() { return order_.members_ > 1 ? order_.take(this) : 0; }
    /// Whether it may launch, after having waited since then.
    bool may_launch(uint64_t turn, Clock::time_point waiting_since) const {
      return turn == 0 || order_.may_launch(turn, waiting_since);
    }
    void give_back(uint64_t turn) {
      if (turn != 0) order_.give_back(turn);
    }
    /// Gives back all turns.
    void leave() { order_.leave(this); }

   private:
    LaunchOrder& order_;
  };

 private:
  uint64_t take(const Member* member);
  bool may_launch(uint64_t turn, Clock::time_point waiting_since);
  void give_back(uint64_t turn);
  void leave(const Member* member);

  std::atomic<int> members_{0};
  std::mutex mutex_;
  uint64_t last_ = 0;
  std::map<uint64_t, const Member*> waiting_;
};

}  // namespace c10d::nccl_shim
