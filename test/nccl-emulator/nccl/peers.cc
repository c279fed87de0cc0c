#include "peers.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace nccl_emulator {

Peers::~Peers() {
  for (auto& process : processes_)
    if (process.fd >= 0) close(process.fd);
}

void Peers::watch(int rank, int pid) {
  std::lock_guard lock(mutex_);
  auto& process = processes_[static_cast<size_t>(rank)];
  if (process.pid >= 0) return;
  process.pid = pid;
  if (pid == getpid()) return;
  process.fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (process.fd < 0 && errno == ESRCH) process.dead = true;
}

bool Peers::dead(int rank) {
  std::lock_guard lock(mutex_);
  auto& process = processes_[static_cast<size_t>(rank)];
  if (process.dead || process.pid < 0 || process.pid == getpid()) return process.dead;
  if (process.fd >= 0) {
    pollfd ended{process.fd, POLLIN, 0};
    process.dead = poll(&ended, 1, 0) > 0;
  } else {
    process.dead = kill(process.pid, 0) != 0 && errno == ESRCH;
  }
  return process.dead;
}

}  // namespace nccl_emulator
