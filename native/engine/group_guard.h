// The lock of a Group.
#pragma once

#include <utility>

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
    const unsigned wakes = std::exchange(group_.worker_wakes_, 0);
    lock_.unlock();
    for (unsigned i = 0; i < wakes; i++) group_.work_.notify_one();
    if (wake) group_.events_.wake();
  }
  /// Wakes at once the threads that are to be woken, without the mutex, so that they need not wait for it. Returns
  /// whether there were any: then what the mutex guards may have changed.
  bool flush() {
    if (group_.worker_wakes_ == 0 && !group_.events_.wake_due()) return false;
    unlock();
    lock_.lock();
    return true;
  }
  /// May return early, as condition variables do: call it in a loop that checks the condition.
  void wait(std::condition_variable& cv) {
    if (!flush()) cv.wait(lock_);
  }
  void wait_until(std::condition_variable& cv, Clock::time_point deadline) {
    if (flush()) return;
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
