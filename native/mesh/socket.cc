#include "mesh/socket.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "ops/failure.h"

namespace c10d {

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

int Fd::release() { return std::exchange(fd_, -1); }

Cancellation::Cancellation() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (event_.get() < 0) throw Failure::of_system("eventfd", errno);
}

void Cancellation::cancel() noexcept {
  cancelled_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] auto sent = ::write(event_.get(), &one, sizeof one);
}

}  // namespace c10d
