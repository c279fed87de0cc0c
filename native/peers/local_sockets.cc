#include "peers/local_sockets.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "engine/transport.h"

namespace c10d {

namespace {

constexpr int kPollMs = 10;
/// The handshake is sent right after connecting.
constexpr std::chrono::milliseconds kHandshakeLimit{1'000};
/// Connections that have not yet sent it.
constexpr size_t kMaxPending = 256;
constexpr int kAcceptedAtOnce = 1024;

/// The first message on a connection, from the side that connects.
struct Handshake {
  uint64_t token;
  int32_t rank;
};

/// A connection whose handshake has not arrived yet.
struct PendingConnection {
  Fd socket;
  Clock::time_point since = Clock::now();
};

Failure broken(const char* what) { return Failure::of_system(what, errno); }

/// Address of a local socket without a file.
socklen_t address_of(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const size_t length = name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

Fd local_socket() {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) throw broken("socket");
  return fd;
}

/// Whether the process at the other end of a local socket belongs to this user.
bool is_same_user(const Fd& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 &&
         credentials.uid == ::geteuid();
}

/// No PeerMessage begins with it.
constexpr char kDescriptorByte = 0;

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
  char byte_ = kDescriptorByte;
  alignas(cmsghdr) char control_[CMSG_SPACE(sizeof(int))] = {};
  iovec content_{};
  msghdr header_{};
};

}  // namespace

uint64_t random_number() {
  uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) throw broken("getrandom");
  return number;
}

std::string host_identity() {
  char boot[40] = {};
  const Fd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  [[maybe_unused]] const auto got = ::read(file.get(), boot, sizeof boot - 4);
  struct stat network {};
  if (boot[0] == '\0' || ::stat("/proc/self/ns/net", &network) != 0) return "";
  return std::string(boot, 36) + "/" + std::to_string(network.st_ino);
}

LocalListener::LocalListener(int connections) : name_(std::to_string(random_number())), socket_(local_socket()) {
  sockaddr_un address{};
  const socklen_t size = address_of(name_, address);
  if (::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) throw broken("bind");
  if (::listen(socket_.get(), connections + 8) != 0) throw broken("listen");
}

/// Any process of this host can connect. Those of other users are dropped at once, and none delays the others.
void LocalListener::accept(std::vector<int> ranks, uint64_t token, const std::function<void(int, Fd)>& connected,
                           const std::function<void()>& stop) {
  std::vector<PendingConnection> pending;
  while (!ranks.empty()) {
    stop();
    std::vector<pollfd> sources{{socket_.get(), POLLIN, 0}};
    for (const auto& connection : pending) sources.push_back({connection.socket.get(), POLLIN, 0});
    ::poll(sources.data(), sources.size(), kPollMs);
    for (int count = 0; count < kAcceptedAtOnce; count++) {
      Fd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      // The connection stays in the queue, so poll() would return at once, again and again.
      if (fd.get() < 0 && (errno == EMFILE || errno == ENFILE)) throw broken("accept");
      if (fd.get() < 0) break;
      if (!is_same_user(fd)) continue;
      // The oldest one has had the longest time to send its handshake.
      if (pending.size() == kMaxPending) pending.erase(pending.begin());
      pending.push_back({std::move(fd)});
    }
    for (size_t i = 0; i < pending.size();) {
      Handshake handshake{};
      const auto got = ::recv(pending[i].socket.get(), &handshake, sizeof handshake, MSG_DONTWAIT);
      const bool is_late = Clock::now() - pending[i].since > kHandshakeLimit;
      if (got < 0 && (errno == EAGAIN || errno == EINTR) && !is_late) {
        i++;
        continue;
      }
      const auto found = std::find(ranks.begin(), ranks.end(), handshake.rank);
      if (got == sizeof handshake && handshake.token == token && found != ranks.end()) {
        ranks.erase(found);
        connected(handshake.rank, std::move(pending[i].socket));
      }
      pending.erase(pending.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

Fd dial_local(const std::string& name, int own_rank, int peer, uint64_t token, const std::function<void()>& stop) {
  Fd fd = local_socket();
  sockaddr_un address{};
  const socklen_t size = address_of(name, address);
  const Failure exited(C10D_ERR_NETWORK, "rank " + std::to_string(peer) + " has exited while connecting", peer);
  while (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) {
    // EAGAIN: its backlog is full at the moment.
    if (errno != EAGAIN && errno != EINTR) throw Failure(exited);
    stop();
    ::usleep(1000);
  }
  if (!is_same_user(fd)) {
    throw Failure(C10D_ERR_NETWORK, "rank " + std::to_string(peer) + " runs as another user of this host", peer);
  }
  const Handshake handshake{token, own_rank};
  if (::send(fd.get(), &handshake, sizeof handshake, MSG_NOSIGNAL) != sizeof handshake) throw Failure(exited);
  return fd;
}

bool is_listening(const std::string& name) {
  const Fd fd = local_socket();
  sockaddr_un address{};
  const socklen_t size = address_of(name, address);
  return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 || errno != ECONNREFUSED;
}

void send_descriptor(int socket, int fd) {
  DescriptorMessage message;
  cmsghdr* const part = message.part();
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  [[maybe_unused]] const auto sent = ::sendmsg(socket, message.header(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

std::optional<Fd> take_descriptor(int socket) {
  char first = kDescriptorByte;
  const auto seen = ::recv(socket, &first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
  if (seen < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (seen != sizeof first || first != kDescriptorByte) return Fd();
  DescriptorMessage message;
  const auto got = ::recvmsg(socket, message.header(), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && errno == EINTR) return std::nullopt;
  if ((message.header()->msg_flags & MSG_CTRUNC) != 0) throw Failure::of_system("recvmsg", EMFILE);
  const cmsghdr* const part = got == 1 ? message.part() : nullptr;
  if (part == nullptr || part->cmsg_type != SCM_RIGHTS) return Fd();
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
  return Fd(fd);
}

}  // namespace c10d
