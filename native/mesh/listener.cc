#include "mesh/listener.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace c10d {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A connection that has not presented its number by then is dropped.
constexpr seconds kHandshakeLimit{10};
/// Connections that may wait for their handshake, beyond one per peer.
constexpr size_t kSpareHandshakes = 64;
constexpr milliseconds kDialPause{20};
constexpr milliseconds kLookInterval{50};
/// How long the address of a peer may refuse connections before the peer is lost: on this host, and on another one.
constexpr milliseconds kRefusedHere{300};
constexpr milliseconds kRefusedFar{3'000};

Failure refused(const std::string& what) { return Failure::of_system(what, errno, C10D_ERR_NETWORK); }

int poll_ms(Clock::time_point deadline) {
  constexpr int64_t kLongest = 1000;
  if (deadline == Clock::time_point::max()) return kLongest;
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count() + 1;
  return static_cast<int>(std::clamp<int64_t>(left, 0, kLongest));
}

void check(const Cancellation& cancellation) {
  if (cancellation.cancelled()) throw Failure(C10D_ERR_ABORTED, "connecting was cancelled");
}

void disable_nagle(const Fd& fd) {
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

Listener::Listener(const SocketAddress& address, size_t connections, const char* variable)
    : socket_(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
  if (socket_.get() < 0) throw refused("socket");
  if (::bind(socket_.get(), address.data(), address.size()) != 0) {
    throw refused("cannot bind to " + address.text() + " (is it an address of this host? see " + variable + ")");
  }
  if (::listen(socket_.get(), static_cast<int>(connections + kSpareHandshakes)) != 0) throw refused("listen");
  address_ = SocketAddress::of_socket(socket_.get());
}

Fd Listener::accept(int64_t number, Clock::time_point deadline, const Cancellation& cancellation, Exchange& log) {
  return accept_any({number}, deadline, cancellation, log).second;
}

std::pair<int64_t, Fd> Listener::accept_any(const std::vector<int64_t>& numbers, Clock::time_point deadline,
                                            const Cancellation& cancellation, Exchange& log) {
  for (;;) {
    for (const int64_t number : numbers) {
      Fd found = take(number);
      if (found.get() >= 0) return {number, std::move(found)};
    }
    if (Clock::now() >= deadline) throw Failure(C10D_ERR_OP_TIMEOUT, "timed out waiting for its connection");
    serve(deadline, cancellation, log);
  }
}

void Listener::serve(Clock::time_point until, const Cancellation& cancellation, Exchange& log) {
  check(cancellation);
  std::vector<pollfd> sources{{socket_.get(), POLLIN, 0}, {cancellation.fd(), POLLIN, 0}};
  for (const auto& handshake : handshakes_) {
    sources.push_back({handshake.fd.get(), POLLIN, 0});
    until = std::min(until, handshake.until);
  }
  ::poll(sources.data(), sources.size(), poll_ms(until));
  check(cancellation);
  const auto now = Clock::now();
  for (size_t i = handshakes_.size(); i-- > 0;) {
    const bool late = handshakes_[i].until <= now;
    if (late) log.log("dropped a connection that sent no rank number in time");
    if (late || (sources[i + 2].revents != 0 && !read_handshake(handshakes_[i], log))) {
      handshakes_.erase(handshakes_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  if (sources[0].revents != 0) admit(log);
}

void Listener::refuse(int64_t number, Exchange& log) {
  if (connected_.at(number).get() >= 0) log.log("dropped a connection that sent an unknown rank number");
  connected_.erase(number);
}

void Listener::admit(Exchange& log) {
  for (;;) {
    Fd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.get() < 0) {
      // The connection stays in the queue, so poll() would return at once, again and again.
      if (errno == EMFILE || errno == ENFILE) throw refused("accept");
      return;
    }
    disable_nagle(fd);
    if (handshakes_.size() >= connected_.size() + kSpareHandshakes) {
      // It may have sent its number since the last poll().
      if (read_handshake(handshakes_.front(), log)) {
        log.log("dropped a connection: too many have not sent a rank number yet");
      }
      handshakes_.erase(handshakes_.begin());
    }
    Handshake handshake;
    handshake.fd = std::move(fd);
    handshake.until = Clock::now() + kHandshakeLimit;
    handshakes_.push_back(std::move(handshake));
  }
}

/// Returns whether to wait for more of it.
bool Listener::read_handshake(Handshake& handshake, Exchange& log) {
  const auto got =
      ::recv(handshake.fd.get(), handshake.bytes + handshake.got, sizeof handshake.bytes - handshake.got, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  handshake.got += static_cast<size_t>(got);
  if (handshake.got < sizeof handshake.bytes) return true;
  int64_t number = 0;
  std::memcpy(&number, handshake.bytes, sizeof number);
  const auto found = connected_.find(number);
  if (found == connected_.end() || found->second.get() >= 0) {
    log.log("dropped a connection that sent an unknown rank number");
  } else {
    found->second = std::move(handshake.fd);
  }
  return false;
}

Fd dial(const SocketAddress& address, int64_t number, bool same_host, Clock::time_point deadline,
        const Cancellation& cancellation, const std::function<void()>& look) {
  auto lost_at = Clock::time_point::max();
  for (;;) {
    check(cancellation);
    if (look) look();
    Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd.get() < 0) throw refused("socket");
    int error = ::connect(fd.get(), address.data(), address.size()) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      pollfd sources[2] = {{fd.get(), POLLOUT, 0}, {cancellation.fd(), POLLIN, 0}};
      while (sources[0].revents == 0 && Clock::now() < deadline) {
        check(cancellation);
        if (look) look();
        ::poll(sources, 2, poll_ms(look ? std::min(deadline, Clock::now() + kLookInterval) : deadline));
      }
      socklen_t size = sizeof error;
      if (sources[0].revents == 0) {
        error = ETIMEDOUT;
      } else if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
      }
    }
    if (error == 0) {
      disable_nagle(fd);
      // A fresh connection always has room for eight bytes.
      if (::send(fd.get(), &number, sizeof number, MSG_NOSIGNAL) == sizeof number) return fd;
      error = errno;
    }
    const auto now = Clock::now();
    if (error != ECONNREFUSED) {
      lost_at = Clock::time_point::max();
    } else if (lost_at == Clock::time_point::max()) {
      lost_at = now + (same_host ? kRefusedHere : kRefusedFar);
    }
    if (now >= lost_at) {
      throw Failure(C10D_ERR_NETWORK, "it no longer listens at " + address.text());
    }
    if (now + kDialPause >= deadline) {
      const int32_t status = error == ETIMEDOUT ? C10D_ERR_OP_TIMEOUT : C10D_ERR_NETWORK;
      throw Failure::of_system("cannot connect to " + address.text(), error, status);
    }
    pollfd pause{cancellation.fd(), POLLIN, 0};
    ::poll(&pause, 1, static_cast<int>(kDialPause.count()));
  }
}

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

void require_reachable(const Endpoint& own, const Endpoint& peer, const char* variable) {
  const bool loopback = own.address.is_loopback();
  if (loopback == peer.address.is_loopback() && (!loopback || own.host_name == peer.host_name)) return;
  throw Failure(C10D_ERR_INVALID, "it is on another host (" + peer.host_name + ", " + peer.address.text() +
                                      ") while this one listens on " + own.address.text() +
                                      "; name an interface that both can reach with " + variable);
}

}  // namespace c10d
