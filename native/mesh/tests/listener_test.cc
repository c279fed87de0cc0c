// The listening socket of a rank, with strangers that connect to it.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mesh/awaited_peers.h"

using namespace c10d;

namespace {

constexpr int64_t kNumber = 42;
constexpr size_t kConnections = 192;

class Log final : public Exchange {
 public:
  void set(const std::string&, const void*, size_t) override {}
  uint64_t request(const std::string&) override { return 0; }
  std::vector<char> await(uint64_t, Clock::time_point) override { return {}; }
  void log(const std::string& text) override { lines.push_back(text); }
  std::vector<std::string> lines;
};

/// A connection that has sent nothing and waits in the queue of the listener.
Fd silent(const Listener& listener) {
  Fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::connect(made.get(), listener.address().data(), listener.address().size()) == 0);
  return made;
}

Fd presenting(const Listener& listener, int64_t number) {
  Fd made = silent(listener);
  REQUIRE(::send(made.get(), &number, sizeof number, MSG_NOSIGNAL) == sizeof number);
  return made;
}

/// What a call throws.
template <class Call>
Failure failure_of(Call call) {
  const auto failure = attempt(call);
  REQUIRE(failure);
  return *failure;
}

Clock::time_point soon() { return Clock::now() + std::chrono::seconds(20); }

}  // namespace

TEST_CASE("a rank that has presented its number is not dropped for strangers that connect after it") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  listener.expect(kNumber);
  Cancellation cancellation;
  Log log;
  const Fd rank = presenting(listener, kNumber);
  std::vector<Fd> strangers;
  for (int i = 0; i < 200; i++) strangers.push_back(silent(listener));
  const Fd accepted = listener.accept(kNumber, soon(), cancellation, log);
  REQUIRE(::send(rank.get(), "!", 1, MSG_NOSIGNAL) == 1);
  char got = 0;
  // The rank's bytes may take a moment from one socket to the other.
  for (int i = 0; i < 2'000 && ::recv(accepted.get(), &got, 1, MSG_DONTWAIT) != 1; i++) ::usleep(1'000);
  CHECK(got == '!');
  // One slot for the rank, and 64 for strangers.
  CHECK(log.lines.size() == 200 - 65);
}

TEST_CASE("a connection that presents an unknown number is dropped") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  listener.expect(kNumber);
  Cancellation cancellation;
  Log log;
  const Fd stranger = presenting(listener, kNumber + 1);
  const Fd rank = presenting(listener, kNumber);
  const Fd accepted = listener.accept(kNumber, soon(), cancellation, log);
  CHECK(accepted.get() >= 0);
  CHECK(log.lines == std::vector<std::string>{"dropped a connection that sent an unknown rank number"});
}

TEST_CASE("a process without descriptors left fails with that error") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  listener.expect(kNumber);
  Cancellation cancellation;
  Log log;
  const Fd rank = presenting(listener, kNumber);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{3, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  std::string text;
  try {
    listener.accept(kNumber, Clock::now() + std::chrono::seconds(2), cancellation, log);
  } catch (const Failure& failure) {
    text = failure.text();
  }
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(text == "accept: Too many open files");
}

TEST_CASE("only peers that do not connect are named") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  Cancellation cancellation;
  Log log;
  std::vector<AwaitedPeer> peers;
  // The missing ones still listen.
  std::vector<Listener> others;
  for (const int rank : {1, 2, 3}) {
    listener.expect(rank);
    others.emplace_back(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
    peers.push_back({rank, rank, ListenerProbe(others.back().address(), true)});
  }
  const Fd rank = presenting(listener, 2);
  std::vector<size_t> arrived;
  const auto failure = failure_of([&] {
    accept_all(peers, listener, Clock::now() + std::chrono::seconds(1), cancellation, log,
               [&](size_t i, const Fd&) { arrived.push_back(i); });
  });
  CHECK(arrived == std::vector<size_t>{1});
  CHECK(failure.status() == C10D_ERR_OP_TIMEOUT);
  CHECK(failure.ranks() == std::vector<int32_t>{1, 3});
  CHECK(failure.text() == "ranks 1 and 3 have not connected");
}

TEST_CASE("a peer that no longer listens and has not connected is lost") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  Cancellation cancellation;
  Log log;
  const auto await_peer = [&](bool same_host, const SocketAddress& address, Clock::time_point deadline) {
    std::vector<AwaitedPeer> peers;
    peers.push_back({1, kNumber, ListenerProbe(address, same_host)});
    return failure_of([&] { accept_all(peers, listener, deadline, cancellation, log, [](size_t, const Fd&) {}); });
  };
  listener.expect(kNumber);
  std::optional<Listener> peer(std::in_place, SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  const auto address = peer->address();
  peer.reset();
  const auto lost = await_peer(true, address, soon());
  CHECK(lost.status() == C10D_ERR_NETWORK);
  CHECK(lost.peer() == 1);
  CHECK(lost.text() == "rank 1 is lost: it has not connected, and no longer listens");
  // On another host, a firewall may have answered.
  CHECK(await_peer(false, address, Clock::now() + std::chrono::seconds(1)).status() == C10D_ERR_OP_TIMEOUT);
}

TEST_CASE("a peer that has connected need not listen") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  Cancellation cancellation;
  Log log;
  listener.expect(1);
  listener.expect(2);
  const SocketAddress unused = Listener(SocketAddress("127.0.0.1", 0), 1, "GLOO_SOCKET_IFNAME").address();
  std::vector<AwaitedPeer> peers;
  peers.push_back({1, 1, ListenerProbe(unused, true)});
  peers.push_back({2, 2, std::nullopt});
  const Fd one = presenting(listener, 1);
  const auto failure = failure_of([&] {
    accept_all(peers, listener, Clock::now() + std::chrono::seconds(1), cancellation, log, [](size_t, const Fd&) {});
  });
  CHECK(failure.ranks() == std::vector<int32_t>{2});
}

TEST_CASE("a peer that no longer listens is not dialed for long") {
  Cancellation cancellation;
  const SocketAddress unused = Listener(SocketAddress("127.0.0.1", 0), 1, "GLOO_SOCKET_IFNAME").address();
  const auto failure = failure_of([&] { dial(unused, kNumber, true, soon(), cancellation); });
  CHECK(failure.status() == C10D_ERR_NETWORK);
  CHECK(failure.text() == "it no longer listens at " + unused.text());
}

TEST_CASE("a check that throws ends the wait for a peer that is dialed or awaited") {
  Cancellation cancellation;
  Log log;
  const auto look = [] { throw Failure(C10D_ERR_NETWORK, "rank 3 is lost", 3); };
  const SocketAddress unused = Listener(SocketAddress("127.0.0.1", 0), 1, "GLOO_SOCKET_IFNAME").address();
  CHECK(failure_of([&] { dial(unused, kNumber, true, soon(), cancellation, look); }).peer() == 3);
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  listener.expect(kNumber);
  std::vector<AwaitedPeer> peers;
  peers.push_back({1, kNumber, std::nullopt});
  const auto wait = [&] {
    accept_all(
        peers, listener, soon(), cancellation, log, [](size_t, const Fd&) {}, look);
  };
  CHECK(failure_of(wait).peer() == 3);
}
