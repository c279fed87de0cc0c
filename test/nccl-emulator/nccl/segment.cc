#include "segment.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <list>
#include <mutex>
#include <string>
#include <system_error>

namespace nccl_emulator {
namespace {

constexpr std::array<char, 8> magic_of_ids{'N', 'C', 'C', 'L', 'E', 'M', 'U', '1'};
constexpr const char* memory_name = "nccl-emulator";

struct MadeId {
  int fd;
  pid_t pid;  ///< A forked child has the list, but not the right to close what its parent made.
  SegmentHeader* header;
};

struct MadeIds {
  std::mutex mutex;
  std::list<MadeId> list;
};

MadeIds& made_ids() {
  static auto* ids = new MadeIds;
  return *ids;
}

long futex(std::atomic<uint32_t>& word, int op, uint32_t value, const timespec* limit) {
  return syscall(SYS_futex, &word, op, value, limit, nullptr, 0);
}

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::system_category(), what); }

}  // namespace

ncclUniqueId SegmentName::make() {
  close_used();
  SegmentName name{magic_of_ids, {}, getpid(), -1, 0};
  if (getrandom(name.token.data(), name.token.size(), 0) != static_cast<ssize_t>(name.token.size())) fail("getrandom");
  name.fd = memfd_create(memory_name, MFD_CLOEXEC);
  if (name.fd < 0) fail("memfd_create");
  struct stat status {};
  void* memory = MAP_FAILED;
  if (fchmod(name.fd, 0600) == 0 && ftruncate(name.fd, sizeof(SegmentHeader)) == 0 && fstat(name.fd, &status) == 0)
    memory = mmap(nullptr, sizeof(SegmentHeader), PROT_READ | PROT_WRITE, MAP_SHARED, name.fd, 0);
  if (memory == MAP_FAILED) {
    auto error = errno;
    close(name.fd);
    errno = error;
    fail("memfd");
  }
  name.inode = status.st_ino;
  auto* header = static_cast<SegmentHeader*>(memory);
  header->token = name.token;
  auto& ids = made_ids();
  std::lock_guard lock(ids.mutex);
  ids.list.push_back({name.fd, name.pid, header});
  ncclUniqueId id{};
  memcpy(id.internal, &name, sizeof name);
  return id;
}

bool SegmentName::read(const ncclUniqueId& id, SegmentName* name) {
  memcpy(name, id.internal, sizeof *name);
  return name->magic == magic_of_ids;
}

void SegmentName::close_used() {
  auto& ids = made_ids();
  std::lock_guard lock(ids.mutex);
  ids.list.remove_if([](const MadeId& id) {
    auto ranks = id.header->ranks.load();
    bool foreign = id.pid != getpid();
    if (!foreign && (ranks == 0 || id.header->arrived.load() < ranks)) return false;
    munmap(id.header, sizeof(SegmentHeader));
    close(id.fd);
    return true;
  });
}

size_t Segment::ring_size(int ranks) {
  return ranks <= 4 ? 64 << 10 : ranks <= 8 ? 32 << 10 : ranks <= 16 ? 16 << 10 : 4 << 10;
}

size_t Segment::size(int ranks) {
  auto pairs = static_cast<size_t>(ranks) * static_cast<size_t>(ranks);
  return sizeof(SegmentHeader) + pairs * 2 * (sizeof(Ring) + ring_size(ranks));
}

Segment::Segment(void* memory, size_t bytes, int ranks)
    : header_(static_cast<SegmentHeader*>(memory)), bytes_(bytes), ranks_(ranks), ring_bytes_(ring_size(ranks)) {}

Segment::~Segment() { munmap(header_, bytes_); }

std::unique_ptr<Segment> Segment::open(const SegmentName& name, int ranks, Failure* failure) {
  auto path = "/proc/" + std::to_string(name.pid) + "/fd/" + std::to_string(name.fd);
  // Looked at first: if the id is spent, the number may be of anything by now.
  char target[64] = {};
  struct stat status {};
  bool ours = readlink(path.c_str(), target, sizeof target - 1) > 0 && strstr(target, memory_name) != nullptr &&
              stat(path.c_str(), &status) == 0 && status.st_ino == name.inode;
  if (!ours) {
    *failure = kill(name.pid, 0) == 0 || errno == EPERM ? Failure::spent : Failure::maker_gone;
    return nullptr;
  }
  *failure = Failure::system;
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  auto bytes = size(ranks);
  // Each rank makes it at least as large as it needs; it never gets smaller.
  bool large = fstat(fd, &status) == 0 &&
               (static_cast<size_t>(status.st_size) >= bytes || posix_fallocate(fd, 0, static_cast<off_t>(bytes)) == 0);
  void* memory = large ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  close(fd);
  if (memory == MAP_FAILED) return nullptr;
  std::unique_ptr<Segment> segment(new Segment(memory, bytes, ranks));
  if (segment->header().token != name.token) {
    *failure = Failure::spent;
    return nullptr;
  }
  *failure = Failure::none;
  return segment;
}

Ring& Segment::ring(int from, int to, Channel channel) {
  auto index = static_cast<size_t>(from * ranks_ + to) * 2 + (channel == Channel::messages ? 1 : 0);
  auto* rings = reinterpret_cast<char*>(header_ + 1);
  return *reinterpret_cast<Ring*>(rings + index * (sizeof(Ring) + ring_bytes_));
}

void Segment::wake(int rank) {
  auto& one = slot(rank);
  one.bell.fetch_add(1);
  if (one.sleepers.load() > 0) futex(one.bell, FUTEX_WAKE, INT_MAX, nullptr);
}

void Segment::wake_all() {
  for (int rank = 0; rank < ranks_; rank++) wake(rank);
}

void Segment::sleep(int rank, const std::function<bool()>& ready) {
  auto& own = slot(rank);
  own.sleepers.fetch_add(1);
  auto seen = own.bell.load();
  if (!ready()) {
    timespec limit{0, 5'000'000};
    futex(own.bell, FUTEX_WAIT, seen, &limit);
  }
  own.sleepers.fetch_sub(1);
}

}  // namespace nccl_emulator
