#include "process/pmi_socket.h"

#include <mpi.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>
#include <optional>
#include <string_view>

namespace c10d::mpi_shim {

namespace {

/// How long the launcher may take to answer.
constexpr int kAnswerLimitMs = 1'000;

std::optional<ino_t> inode_of_socket(int fd) {
  struct stat found {};
  if (fstat(fd, &found) != 0 || !S_ISSOCK(found.st_mode)) return std::nullopt;
  return found.st_ino;
}

}  // namespace

PmiSocket::PmiSocket() {
#ifdef MPICH_VERSION
  const char* text = std::getenv("PMI_FD");
  if (text == nullptr || *text == '\0') return;
  char* end = nullptr;
  const long fd = std::strtol(text, &end, 10);
  if (*end != '\0' || fd < 0) return;
  const auto inode = inode_of_socket(static_cast<int>(fd));
  if (!inode) return;
  fd_ = static_cast<int>(fd);
  inode_ = *inode;
#endif
}

void PmiSocket::finalize() const {
  // Once closed, the descriptor may belong to another file.
  if (fd_ < 0 || inode_of_socket(fd_) != inode_) return;
  constexpr std::string_view request = "cmd=finalize\n";
  if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
  // The launcher fails if this process has exited when it answers.
  pollfd answer{fd_, POLLIN, 0};
  poll(&answer, 1, kAnswerLimitMs);
}

}  // namespace c10d::mpi_shim
