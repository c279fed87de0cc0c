#include "rendezvous.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

#include "rank_value.h"

namespace c10d::gloo_shim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A connection that has not presented its number by then is dropped.
constexpr seconds kGreetingLimit{10};
/// Connections that may be waiting to present a number, beyond one per peer.
constexpr size_t kSpareGreetings = 64;
constexpr milliseconds kDialPause{20};

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

int64_t random_number(std::random_device& device) {
  const uint64_t high = device();
  return static_cast<int64_t>(((high << 32) | device()) >> 1);
}

/// In the place of its own number, which nobody presents: the rank is ready for lines, with headers of this version.
constexpr int64_t kTalksLines = 0x62756e2d6c6e3202;

/// The number that the second connection of two ranks presents.
int64_t number_of_line(int64_t number) { return number ^ 0x5a5a5a5a5a5a5a5a; }

/// Calls `connect(rank)`; its failures say which rank they are about.
template <class Connect>
void for_each_peer(const Config& config, Connect connect) {
  for (int rank = 0; rank < config.world_size; rank++) {
    if (rank == config.rank) continue;
    try {
      connect(rank);
    } catch (const Failure& failure) {
      if (failure.peer() >= 0 || failure.status() == C10D_ERR_ABORTED) throw;
      throw failure.about(rank, "connecting to rank " + std::to_string(rank) + ": ");
    }
  }
}

void send_at_once(const Fd& fd) {
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

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

Listener::Listener(const SocketAddress& address, size_t backlog)
    : socket_(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
  if (socket_.get() < 0) throw refused("socket");
  if (::bind(socket_.get(), address.data(), address.size()) != 0) {
    throw refused("cannot bind to " + address.text() + " (is it an address of this host? see GLOO_SOCKET_IFNAME)");
  }
  if (::listen(socket_.get(), static_cast<int>(backlog)) != 0) throw refused("listen");
  address_ = SocketAddress::of_socket(socket_.get());
}

Fd Listener::accept(int64_t number, Clock::time_point deadline, const Cancellation& cancellation, Exchange& log) {
  return accept_any({number}, deadline, cancellation, log).second;
}

std::pair<int64_t, Fd> Listener::accept_any(const std::vector<int64_t>& numbers, Clock::time_point deadline,
                                            const Cancellation& cancellation, Exchange& log) {
  for (;;) {
    check(cancellation);
    for (const int64_t number : numbers) {
      Fd& found = connected_.at(number);
      if (found.get() >= 0) return {number, std::move(found)};
    }
    const auto now = Clock::now();
    if (now >= deadline) throw Failure(C10D_ERR_OP_TIMEOUT, "timed out waiting for its connection");
    auto wake_at = deadline;
    std::vector<pollfd> sources{{socket_.get(), POLLIN, 0}, {cancellation.fd(), POLLIN, 0}};
    for (const auto& greeting : greetings_) {
      sources.push_back({greeting.fd.get(), POLLIN, 0});
      wake_at = std::min(wake_at, greeting.until);
    }
    ::poll(sources.data(), sources.size(), poll_ms(wake_at));
    const auto after = Clock::now();
    for (size_t i = greetings_.size(); i-- > 0;) {
      const bool late = greetings_[i].until <= after;
      if (late) log.log("dropped a connection that sent no rank number in time");
      if (late || (sources[i + 2].revents != 0 && !read_greeting(greetings_[i], log))) {
        greetings_.erase(greetings_.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    if (sources[0].revents != 0) admit(log);
  }
}

void Listener::refuse(int64_t number, Exchange& log) {
  if (connected_.at(number).get() >= 0) log.log("dropped a connection that sent an unknown rank number");
  connected_.erase(number);
}

void Listener::admit(Exchange& log) {
  for (;;) {
    Fd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.get() < 0) {
      // The connection stays in the queue, so poll() would come back at once, again and again.
      if (errno == EMFILE || errno == ENFILE) throw refused("accept");
      return;
    }
    send_at_once(fd);
    if (greetings_.size() >= connected_.size() + kSpareGreetings) {
      // It may have spoken since it was looked at.
      if (read_greeting(greetings_.front(), log)) {
        log.log("dropped a connection: too many are waiting that have sent no rank number");
      }
      greetings_.erase(greetings_.begin());
    }
    Greeting greeting;
    greeting.fd = std::move(fd);
    greeting.until = Clock::now() + kGreetingLimit;
    greetings_.push_back(std::move(greeting));
  }
}

/// Whether to go on listening to it.
bool Listener::read_greeting(Greeting& greeting, Exchange& log) {
  const auto got =
      ::recv(greeting.fd.get(), greeting.bytes + greeting.got, sizeof greeting.bytes - greeting.got, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  greeting.got += static_cast<size_t>(got);
  if (greeting.got < sizeof greeting.bytes) return true;
  int64_t number = 0;
  std::memcpy(&number, greeting.bytes, sizeof number);
  const auto found = connected_.find(number);
  if (found == connected_.end() || found->second.get() >= 0) {
    log.log("dropped a connection that sent an unknown rank number");
  } else {
    found->second = std::move(greeting.fd);
  }
  return false;
}

Fd dial(const SocketAddress& address, int64_t number, Clock::time_point deadline, const Cancellation& cancellation) {
  for (;;) {
    check(cancellation);
    Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd.get() < 0) throw refused("socket");
    int error = ::connect(fd.get(), address.data(), address.size()) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      pollfd sources[2] = {{fd.get(), POLLOUT, 0}, {cancellation.fd(), POLLIN, 0}};
      while (sources[0].revents == 0 && Clock::now() < deadline) {
        check(cancellation);
        ::poll(sources, 2, poll_ms(deadline));
      }
      socklen_t size = sizeof error;
      if (sources[0].revents == 0) {
        error = ETIMEDOUT;
      } else if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
      }
    }
    if (error == 0) {
      send_at_once(fd);
      // A fresh connection always has room for eight bytes.
      if (::send(fd.get(), &number, sizeof number, MSG_NOSIGNAL) == sizeof number) return fd;
      error = errno;
    }
    if (Clock::now() + kDialPause >= deadline) {
      const int32_t status = error == ETIMEDOUT ? C10D_ERR_OP_TIMEOUT : C10D_ERR_NETWORK;
      throw Failure::of_system("cannot connect to " + address.text(), error, status);
    }
    pollfd pause{cancellation.fd(), POLLIN, 0};
    ::poll(&pause, 1, static_cast<int>(kDialPause.count()));
  }
}

Connections connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                        const Cancellation& cancellation, const std::string& context) {
  const int size = config.world_size;
  Connections made;
  made.peers.resize(static_cast<size_t>(size));
  if (size == 1) return made;

  made.listener = std::make_unique<Listener>(listen_on, 2 * static_cast<size_t>(size) + kSpareGreetings);
  Listener& listener = *made.listener;
  RankValue own{host_name(), listener.address(), {}};
  std::random_device random;
  // One line to each rank is enough, however many interfaces there are.
  const bool wants_lines = config.options.get("lines", "1") == "1" && context == "0";
  for (int rank = 0; rank < size; rank++) {
    own.connection_numbers.push_back(random_number(random));
    if (rank == config.rank) {
      if (wants_lines) own.connection_numbers.back() = kTalksLines;
      continue;
    }
    listener.expect(own.connection_numbers.back());
    // What a PyTorch rank in lazy-init mode presents; whether this one is such a rank, its value will tell.
    listener.expect(rank);
    if (wants_lines) listener.expect(number_of_line(own.connection_numbers.back()));
  }
  const auto bytes = own.encode();
  exchange.set(context + "/" + std::to_string(config.rank), bytes.data(), bytes.size());

  std::vector<uint64_t> requests(static_cast<size_t>(size));
  for (int rank = 0; rank < size; rank++) {
    if (rank != config.rank) requests[rank] = exchange.request(context + "/" + std::to_string(rank));
  }
  // Gloo's connections first: a rank that is not Bun's knows of no others.
  bool all_talk_lines = wants_lines;
  std::vector<RankValue> values(static_cast<size_t>(size));
  const auto connect_to = [&](int rank, const auto& variant) {
    const RankValue& peer = values[rank];
    if (own.address.compare(peer.address) < 0) {
      return listener.accept(variant(own.connection_numbers[rank]), config.connect_deadline, cancellation, exchange);
    }
    // A peer that publishes no numbers wants to be told who dials.
    const int64_t number = peer.connection_numbers.empty() ? config.rank : peer.connection_numbers[config.rank];
    return dial(peer.address, variant(number), config.connect_deadline, cancellation);
  };
  for_each_peer(config, [&](int rank) {
    values[rank] = RankValue::decode(exchange.await(requests[rank], config.connect_deadline), size);
    const RankValue& peer = values[rank];
    if (own.address.is_loopback() != peer.address.is_loopback() ||
        (own.address.is_loopback() && own.host_name != peer.host_name)) {
      throw Failure(C10D_ERR_INVALID, "it is on another host (" + peer.host_name + ", " + peer.address.text() +
                                          ") while this one listens on " + own.address.text() +
                                          "; name an interface that both can reach with GLOO_SOCKET_IFNAME");
    }
    if (peer.connection_numbers.empty() || peer.connection_numbers[rank] != kTalksLines) {
      all_talk_lines = false;
      made.foreign = rank;
    }
    // A PyTorch rank in lazy-init mode publishes no numbers, and dials when it first has to do with this one.
    if (peer.connection_numbers.empty() && own.address.compare(peer.address) < 0) {
      made.late.push_back({rank, own.connection_numbers[rank]});
      made.late.push_back({rank, rank});
    } else {
      listener.refuse(rank, exchange);
      made.peers[rank] = connect_to(rank, [](int64_t number) { return number; });
    }
  });
  if (!all_talk_lines) return made;
  made.lines.resize(static_cast<size_t>(size));
  for_each_peer(config, [&](int rank) { made.lines[rank] = connect_to(rank, number_of_line); });
  return made;
}

}  // namespace c10d::gloo_shim
