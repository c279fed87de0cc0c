#include "peer_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "engine/signature.h"

namespace c10d::ucc_shim {

namespace {

using std::chrono::milliseconds;

/// How long after the end of a rank's process what it had sent before may still be on its way.
constexpr milliseconds kGoneGrace{200};
constexpr int kPollMs = 10;
/// The greeting is sent right after connecting.
constexpr milliseconds kGreetingLimit{1'000};
/// Of those who have not yet sent it.
constexpr size_t kMostCallers = 256;
constexpr int kAcceptedAtOnce = 1024;
/// In place of a rank: the timer.
constexpr uint64_t kTimer = UINT64_MAX;

/// What a rank tells of itself while it connects.
struct Hello {
  char host[64];
  char socket[24];
  uint64_t token;
  /// Where the token lies.
  uint64_t address;
  int32_t process;
  int32_t world_size;
};

/// What the one that dials says first.
struct Greeting {
  uint64_t token;
  int32_t rank;
};

Failure broken(const char* what) { return Failure::of_system(what, errno); }

uint64_t random_number() {
  uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) throw broken("getrandom");
  return number;
}

/// The same on two ranks only if a local socket can connect them: same boot of the same kernel, same network namespace.
std::string host_identity() {
  char boot[40] = {};
  const int file = ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    [[maybe_unused]] const auto got = ::read(file, boot, sizeof boot - 4);
    ::close(file);
  }
  struct stat network {};
  if (boot[0] == '\0' || ::stat("/proc/self/ns/net", &network) != 0) return "";
  return std::string(boot, 36) + "/" + std::to_string(network.st_ino);
}

/// Address of a local socket without a file.
socklen_t address_of(const char* name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const size_t length = ::strnlen(name, sizeof(Hello::socket));
  std::memcpy(address.sun_path + 1, name, length);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

int local_socket() {
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw broken("socket");
  return fd;
}

class Closing {
 public:
  explicit Closing(int fd) : fd_(fd) {}
  ~Closing() { ::close(fd_); }
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

/// Someone who has connected and not yet said who it is.
class Caller {
 public:
  explicit Caller(int socket) : socket_(socket) {}
  Caller(Caller&& other) noexcept : socket_(other.release()), since_(other.since_) {}
  Caller& operator=(Caller&& other) noexcept {
    std::swap(socket_, other.socket_);
    std::swap(since_, other.since_);
    return *this;
  }
  ~Caller() {
    if (socket_ >= 0) ::close(socket_);
  }
  int socket() const { return socket_; }
  int release() { return std::exchange(socket_, -1); }
  bool is_late() const { return Clock::now() - since_ > kGreetingLimit; }

 private:
  int socket_;
  Clock::time_point since_ = Clock::now();
};

/// Whether the process at the other end of a local socket belongs to this user.
bool is_same_user(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 && credentials.uid == ::geteuid();
}

std::string rank_text(size_t rank) { return "rank " + std::to_string(rank); }

/// A message of one byte that carries a descriptor.
class DescriptorMessage {
 public:
  DescriptorMessage() {
    content_ = {&byte_, 1};
    header_.msg_iov = &content_;
    header_.msg_iovlen = 1;
    header_.msg_control = control_;
    header_.msg_controllen = sizeof control_;
  }
  DescriptorMessage(const DescriptorMessage&) = delete;
  DescriptorMessage& operator=(const DescriptorMessage&) = delete;
  msghdr* header() { return &header_; }
  /// The part that holds the descriptor, if there is one.
  cmsghdr* part() { return CMSG_FIRSTHDR(&header_); }

 private:
  char byte_ = 0;
  alignas(cmsghdr) char control_[CMSG_SPACE(sizeof(int))] = {};
  iovec content_{};
  msghdr header_{};
};

/// The other side may be gone, which it is told of elsewhere.
void send_descriptor(int socket, int fd) {
  DescriptorMessage message;
  cmsghdr* const part = message.part();
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  [[maybe_unused]] const auto sent = ::sendmsg(socket, message.header(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

constexpr int kNotYet = -2;

/// Waits a moment; kNotYet if there is none yet, -1 if there will be none.
int take_descriptor(int socket) {
  pollfd source{socket, POLLIN, 0};
  if (::poll(&source, 1, kPollMs) <= 0) return kNotYet;
  DescriptorMessage message;
  const auto got = ::recvmsg(socket, message.header(), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return kNotYet;
  const cmsghdr* const part = got == 1 ? message.part() : nullptr;
  if (part == nullptr || part->cmsg_type != SCM_RIGHTS) return -1;
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
  return fd;
}

}  // namespace

PeerWatch::~PeerWatch() {
  for (const auto& peer : peers_) {
    if (peer.socket >= 0) ::close(peer.socket);
  }
  if (timer_ >= 0) ::close(timer_);
  if (epoll_ >= 0) ::close(epoll_);
}

void PeerWatch::watch(int fd, uint64_t who) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = who;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) throw broken("epoll_ctl");
}

void PeerWatch::connect(Rendezvous& rendezvous, const std::function<void()>& stop) {
  peers_.resize(static_cast<size_t>(config_.world_size));
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) throw broken("epoll_create1");
  timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (timer_ < 0) throw broken("timerfd_create");
  watch(timer_, kTimer);
  napping_ = true;
  nap(std::chrono::microseconds::zero());
  Hello own{};
  own.token = token_ = random_number();
  own.address = reinterpret_cast<uint64_t>(&token_);
  own.process = ::getpid();
  own.world_size = config_.world_size;
  std::string host = host_identity();
  // For tests, which make one machine look like several.
  if (const auto part = config_.options.get("host"); !part.empty()) host += "/" + part;
  host.copy(own.host, sizeof own.host - 1);
  // All users of the host see it.
  const std::string name = std::to_string(random_number());
  name.copy(own.socket, sizeof own.socket - 1);

  const Closing listener(local_socket());
  sockaddr_un address{};
  const socklen_t size = address_of(own.socket, address);
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) throw broken("bind");
  if (::listen(listener.get(), config_.world_size + 8) != 0) throw broken("listen");

  const auto hellos = rendezvous.all_gather(&own, sizeof own);
  int expected = 0;
  for (int rank = 0; rank < config_.world_size; rank++) {
    const auto& value = hellos[static_cast<size_t>(rank)];
    Hello hello{};
    if (value.size() != sizeof hello) {
      throw Failure(C10D_ERR_INVALID, rank_text(static_cast<size_t>(rank)) + " runs another version of bun-c10d", rank);
    }
    std::memcpy(&hello, value.data(), sizeof hello);
    if (hello.world_size != config_.world_size) {
      throw Failure(C10D_ERR_INVALID,
                    rank_text(static_cast<size_t>(rank)) + " makes this group of " + std::to_string(hello.world_size) +
                        " ranks, rank " + std::to_string(config_.rank) + " of " + std::to_string(config_.world_size) +
                        ". All ranks of the job, members or not, must make the same groups in the same order",
                    rank);
    }
    const bool here = !host.empty() && std::strncmp(hello.host, own.host, sizeof own.host) == 0;
    if (here || rank == config_.rank) here_.push_back(rank);
    if (!here || rank == config_.rank) continue;
    Peer& peer = peers_[static_cast<size_t>(rank)];
    peer.address = hello.address;
    peer.token = hello.token;
    peer.process = hello.process;
    // Of another PID namespace, or not for this one to read: then UCX does not read there either.
    if (!memory_is_there(rank)) peer.process = 0;
    if (rank < config_.rank) {
      hello.socket[sizeof hello.socket - 1] = '\0';
      dial(rank, hello.socket, hello.token, stop);
    } else {
      expected++;
    }
  }
  accept(listener.get(), own.token, expected, stop);
  const std::lock_guard<std::mutex> lock(mutex_);
  connected_ = true;
}

/// The first rank makes it and hands it to the others.
int PeerWatch::share_memory(size_t bytes, const std::function<void()>& stop) {
  const int first = here_.front();
  int fd = -1;
  if (first == config_.rank) {
    fd = ::memfd_create("c10d-ucc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) throw broken("memfd_create");
    // Nobody can take it away from under the others later.
    if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0 || ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
      const Failure failure = broken("shared memory");
      ::close(fd);
      throw Failure(failure);
    }
  }
  for (const int rank : here_) {
    if (rank == config_.rank) continue;
    const int socket = peers_[static_cast<size_t>(rank)].socket;
    if (first == config_.rank) {
      send_descriptor(socket, fd);
    } else if (rank == first) {
      while ((fd = take_descriptor(socket)) == kNotYet) stop();
      if (fd < 0)
        throw Failure(C10D_ERR_NETWORK, rank_text(static_cast<size_t>(rank)) + " has gone while connecting", rank);
    }
  }
  for (size_t rank = 0; rank < peers_.size(); rank++) {
    if (peers_[rank].socket >= 0) watch(peers_[rank].socket, rank);
  }
  return fd;
}

bool PeerWatch::memory_is_there(int rank) const {
  const Peer& peer = peers_[static_cast<size_t>(rank)];
  if (peer.process == 0) return true;
  uint64_t token = 0;
  const iovec to{&token, sizeof token};
  const iovec from{reinterpret_cast<void*>(peer.address), sizeof token};
  return ::process_vm_readv(peer.process, &to, 1, &from, 1, 0) == sizeof token && token == peer.token;
}

bool PeerWatch::has_taken_leave(int rank) {
  read();
  return peers_[static_cast<size_t>(rank)].note.has_value();
}

void PeerWatch::nap(std::chrono::microseconds length) {
  if (!napping_ && length.count() == 0) return;
  napping_ = length.count() > 0;
  itimerspec until{};
  until.it_value.tv_nsec = napping_ ? static_cast<long>(length.count()) * 1000 : 1;
  ::timerfd_settime(timer_, 0, &until, nullptr);
}

void PeerWatch::wake(int rank) const {
  Note note{};
  note.kind = Note::wake;
  const int socket = peers_[static_cast<size_t>(rank)].socket;
  [[maybe_unused]] const auto sent = ::send(socket, &note, sizeof note, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void PeerWatch::dial(int rank, const std::string& name, uint64_t token, const std::function<void()>& stop) {
  int& fd = peers_[static_cast<size_t>(rank)].socket;
  fd = local_socket();
  sockaddr_un address{};
  const socklen_t size = address_of(name.c_str(), address);
  while (::connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    // Its backlog is full for now.
    if (errno != EAGAIN && errno != EINTR) {
      throw Failure(C10D_ERR_NETWORK, rank_text(static_cast<size_t>(rank)) + " has gone while connecting", rank);
    }
    stop();
    ::usleep(1000);
  }
  if (!is_same_user(fd)) {
    throw Failure(C10D_ERR_NETWORK, rank_text(static_cast<size_t>(rank)) + " runs as another user of this host", rank);
  }
  const Greeting greeting{token, config_.rank};
  if (::send(fd, &greeting, sizeof greeting, MSG_NOSIGNAL) != sizeof greeting) {
    throw Failure(C10D_ERR_NETWORK, rank_text(static_cast<size_t>(rank)) + " has gone while connecting", rank);
  }
}

/// Any process of this host can connect: those of other users are dropped at once, and no one holds up the others.
void PeerWatch::accept(int listener, uint64_t token, int expected, const std::function<void()>& stop) {
  std::vector<Caller> callers;
  while (expected > 0) {
    stop();
    std::vector<pollfd> sources{{listener, POLLIN, 0}};
    for (const auto& caller : callers) sources.push_back({caller.socket(), POLLIN, 0});
    ::poll(sources.data(), sources.size(), kPollMs);
    for (int count = 0; count < kAcceptedAtOnce; count++) {
      const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) break;
      Caller caller(fd);
      if (!is_same_user(fd)) continue;
      // The oldest one has had the most time.
      if (callers.size() == kMostCallers) callers.erase(callers.begin());
      callers.push_back(std::move(caller));
    }
    for (size_t i = 0; i < callers.size();) {
      Greeting greeting{};
      const auto got = ::recv(callers[i].socket(), &greeting, sizeof greeting, MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR) && !callers[i].is_late()) {
        i++;
        continue;
      }
      const bool known = got == sizeof greeting && greeting.token == token && greeting.rank > config_.rank &&
                         greeting.rank < config_.world_size && peers_[static_cast<size_t>(greeting.rank)].socket < 0;
      if (known) {
        peers_[static_cast<size_t>(greeting.rank)].socket = callers[i].release();
        expected--;
      }
      callers.erase(callers.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

bool PeerWatch::read() {
  epoll_event events[16];
  const int count = ::epoll_wait(epoll_, events, 16, 0);
  for (int i = 0; i < count; i++) {
    if (events[i].data.u64 != kTimer) read(peers_[events[i].data.u64]);
  }
  return count > 0;
}

void PeerWatch::read(Peer& peer) {
  bool reset = false;
  for (;;) {
    Note note{};
    const auto got = ::recv(peer.socket, &note, sizeof note, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got == sizeof note) {
      if (!peer.note && note.kind != Note::wake) peer.note = note;
      continue;
    }
    // A rank that closes its end before it has read everything: what it said itself comes after this.
    if (got < 0 && errno == ECONNRESET && !reset) {
      reset = true;
      continue;
    }
    peer.gone = Clock::now();
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, peer.socket, nullptr);
    return;
  }
}

std::optional<Failure> PeerWatch::look(const Awaited& awaited) {
  read();
  for (size_t i = 0; i < peers_.size(); i++) {
    const Peer& peer = peers_[i];
    if (!peer.note && !peer.gone) continue;
    const auto rank = static_cast<int>(i);
    const bool stale = peer.gone && Clock::now() - *peer.gone >= kGoneGrace;
    if (peer.note && peer.note->kind == Note::failed) return failed_on(rank, *peer.note);
    if (!peer.note) {
      if (stale) return Failure(C10D_ERR_NETWORK, rank_text(i) + " has gone: its process has ended", rank);
      continue;
    }
    const bool message = std::find(awaited.peers.begin(), awaited.peers.end(), rank) != awaited.peers.end();
    if (awaited.collective > peer.note->collectives || (message && stale)) {
      return Failure(C10D_ERR_NETWORK, rank_text(i) + " has left the group", rank);
    }
  }
  return std::nullopt;
}

std::optional<Failure> PeerWatch::find_lost() {
  read();
  for (size_t i = 0; i < peers_.size(); i++) {
    const Peer& peer = peers_[i];
    const auto rank = static_cast<int>(i);
    if (peer.note && peer.note->kind == Note::failed) return failed_on(rank, *peer.note);
    if (peer.note) return Failure(C10D_ERR_NETWORK, rank_text(i) + " has left the group", rank);
    if (peer.gone) return Failure(C10D_ERR_NETWORK, rank_text(i) + " has gone: its process has ended", rank);
  }
  return std::nullopt;
}

/// A time-out there is one here too: nobody knows better who is late.
Failure PeerWatch::failed_on(int rank, const Note& note) const {
  // What a rank has found out about the calls of two is true for both.
  const std::string found(note.text, std::min<size_t>(note.text_bytes, sizeof note.text));
  if (note.status == C10D_ERR_DESYNC) {
    const bool of_this_rank = note.cause == config_.rank;
    return desync(C10D_MISMATCH_REPORTED, of_this_rank ? note.cause : rank, of_this_rank ? rank : note.cause, found);
  }
  const bool late = note.status == C10D_ERR_OP_TIMEOUT;
  std::string text = late ? "an op timed out on " : "the group has failed on ";
  text += rank_text(static_cast<size_t>(rank));
  const bool other = note.cause >= 0 && note.cause != rank;
  if (other) text += " because of rank " + std::to_string(note.cause);
  if (note.status == C10D_ERR_BACKEND) text += ": " + found;
  const int culprit = note.cause == config_.rank || (note.cause < 0 && !late) ? rank : note.cause;
  return Failure(late ? C10D_ERR_OP_TIMEOUT : C10D_ERR_NETWORK, text, culprit);
}

void PeerWatch::leave(uint64_t collectives) noexcept {
  Note note{};
  note.kind = Note::left;
  note.collectives = collectives;
  tell(note);
}

void PeerWatch::fail(const Failure& cause) noexcept {
  Note note{};
  note.kind = Note::failed;
  note.cause = cause.peer();
  note.status = cause.status();
  note.text_bytes = static_cast<uint32_t>(cause.text().copy(note.text, sizeof note.text));
  tell(note);
}

void PeerWatch::tell(const Note& note) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!connected_) return;
  connected_ = false;
  for (const auto& peer : peers_) {
    if (peer.socket < 0) continue;
    [[maybe_unused]] const auto sent = ::send(peer.socket, &note, sizeof note, MSG_NOSIGNAL | MSG_DONTWAIT);
    ::shutdown(peer.socket, SHUT_WR);
  }
}

}  // namespace c10d::ucc_shim
