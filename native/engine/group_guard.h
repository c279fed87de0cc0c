// The lock of a Group.
#pragma once

#include "engine/group.h"

namespace c10d {

class Group::Guard {
 public:
  explicit Guard(Group& group) : group_(group), lock_(group.mutex_) {}
  ~Guard() {
    if (lock_.owns_lock()) unlock();
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  void lock() { lock_.lock(); }
  void unlock() {
    const bool wake = group_.events_.take_wake();
    lock_.unlock();
    if (wake) group_.events_.wake();
  }
  /// Sends a due wake byte at once.
  void flush() {
    if (group_.events_.take_wake()) group_.events_.wake();
  }
  void wait(std::condition_variable& cv) {
    flush();
    cv.wait(lock_);
  }
  void wait_until(std::condition_variable& cv, Clock::time_point deadline) {
    flush();
    if (deadline == Clock::time_point::max()) {
      cv.wait(lock_);
    } else {
      cv.wait_until(lock_, deadline);
    }
  }

 private:
  Group& group_;
  std::unique_lock<std::mutex> lock_;
};

}  // namespace c10d
