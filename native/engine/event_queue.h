// Events for the host, and the socket that wakes it: one byte when the queue stops being empty.
#pragma once

#include <cstdint>
#include <deque>

#include "c10d.h"

namespace c10d {

/// Not thread-safe: the group's mutex guards it, except wake(), which must be called without the mutex.
class EventQueue {
 public:
  EventQueue();
  ~EventQueue();
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  /// The host's end of the socket, which belongs to the host once this was called.
  int host_fd() {
    host_fd_taken_ = true;
    return host_fd_;
  }

  void push(const c10d_event& event);
  bool empty() const { return events_.empty(); }
  c10d_event pop();
  /// The host has seen that the queue is empty: the next event needs a wake byte again.
  void rearm() { armed_ = false; }
  /// Whether a wake byte has to be sent. take_wake() returns that once.
  bool wake_due() const { return wake_due_; }
  bool take_wake();
  /// Sends the wake byte.
  void wake() const;
  uint64_t wakes() const { return wakes_; }

 private:
  std::deque<c10d_event> events_;
  int host_fd_ = -1;
  int own_fd_ = -1;
  bool host_fd_taken_ = false;
  bool armed_ = false;
  bool wake_due_ = false;
  uint64_t wakes_ = 0;
};

}  // namespace c10d
