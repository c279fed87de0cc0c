// File descriptors with an owner, and a way to end a wait for them.
#pragma once

#include <atomic>

namespace c10d {

/// File descriptor with an owner.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  int get() const { return fd_; }
  int release();

 private:
  int fd_;
};

/// Lets another thread end a poll.
class Cancellation {
 public:
  Cancellation();
  void cancel() noexcept;
  bool cancelled() const { return cancelled_; }
  int fd() const { return event_.get(); }

 private:
  std::atomic<bool> cancelled_{false};
  Fd event_;
};

}  // namespace c10d
