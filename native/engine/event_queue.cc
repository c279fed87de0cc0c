#include "engine/event_queue.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "ops/failure.h"

namespace c10d {

EventQueue::EventQueue() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
    throw Failure::of_system("socketpair", errno);
  }
  host_fd_ = fds[0];
  own_fd_ = fds[1];
}

EventQueue::~EventQueue() {
  ::close(own_fd_);
  if (!host_fd_taken_) ::close(host_fd_);
}

void EventQueue::push(const c10d_event& event) {
  events_.push_back(event);
  if (!armed_) armed_ = wake_due_ = true;
}

c10d_event EventQueue::pop() {
  c10d_event event = events_.front();
  events_.pop_front();
  return event;
}

bool EventQueue::take_wake() {
  if (!wake_due_) return false;
  wake_due_ = false;
  wakes_++;
  return true;
}

void EventQueue::wake() const {
  const char byte = 1;
  // A full socket or a closed host end is fine: there is a byte to read already, or no reader.
  [[maybe_unused]] auto sent = ::send(own_fd_, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace c10d
