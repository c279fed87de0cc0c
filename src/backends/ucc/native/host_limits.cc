#include "host_limits.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "ops/failure.h"

namespace c10d::ucc_shim {

namespace {

/// Descriptors of a group, with some to spare: UCX keeps some per network interface and per segment of shared memory.
constexpr size_t kDescriptors = 32;

constexpr int kOthersAccess = 077;

}  // namespace

void require_descriptors() {
  std::vector<int> opened;
  while (opened.size() < kDescriptors) {
    const int fd = ::eventfd(0, EFD_CLOEXEC);
    if (fd < 0) break;
    opened.push_back(fd);
  }
  for (const int fd : opened) ::close(fd);
  if (opened.size() == kDescriptors) return;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  throw Failure::of_shortage("too few file descriptors: UCX needs " + std::to_string(kDescriptors) +
                                 " for a group, and this process can open " + std::to_string(opened.size()) +
                                 " more of the " + std::to_string(limit.rlim_cur) +
                                 " that it may have. Raise the limit (ulimit -n), or close groups",
                             EMFILE);
}

void restrict_segments() {
  std::ifstream table("/proc/sysvipc/shm");
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    long key = 0;
    int id = 0;
    std::string mode;
    unsigned long long size = 0;
    long creator = 0;
    if (!(fields >> key >> id >> mode >> size >> creator) || creator != ::getpid()) continue;
    shmid_ds segment{};
    if (::shmctl(id, IPC_STAT, &segment) != 0 || (segment.shm_perm.mode & kOthersAccess) == 0) continue;
    segment.shm_perm.mode &= ~static_cast<unsigned>(kOthersAccess);
    ::shmctl(id, IPC_SET, &segment);
  }
}

}  // namespace c10d::ucc_shim
