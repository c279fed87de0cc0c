// The listening socket of a rank among connections that are nobody's.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "mesh/listener.h"

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

/// A connection that has not said anything, and waits in the queue of the listener.
Fd silent(const Listener& listener) {
  Fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::connect(made.get(), listener.address().data(), listener.address().size()) == 0);
  return made;
}

Fd speaking(const Listener& listener, int64_t number) {
  Fd made = silent(listener);
  REQUIRE(::send(made.get(), &number, sizeof number, MSG_NOSIGNAL) == sizeof number);
  return made;
}

Clock::time_point soon() { return Clock::now() + std::chrono::seconds(20); }

}  // namespace

TEST_CASE("a rank that has said its number is not dropped for the strangers that come after it") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  listener.expect(kNumber);
  Cancellation cancellation;
  Log log;
  const Fd rank = speaking(listener, kNumber);
  std::vector<Fd> strangers;
  for (int i = 0; i < 200; i++) strangers.push_back(silent(listener));
  const Fd accepted = listener.accept(kNumber, soon(), cancellation, log);
  REQUIRE(::send(rank.get(), "!", 1, MSG_NOSIGNAL) == 1);
  char got = 0;
  // The rank's bytes may take a moment from one socket to the other.
  for (int i = 0; i < 2'000 && ::recv(accepted.get(), &got, 1, MSG_DONTWAIT) != 1; i++) ::usleep(1'000);
  CHECK(got == '!');
  // Its own place, and 64 for strangers.
  CHECK(log.lines.size() == 200 - 65);
}

TEST_CASE("a number that nobody was given is dropped") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  listener.expect(kNumber);
  Cancellation cancellation;
  Log log;
  const Fd stranger = speaking(listener, kNumber + 1);
  const Fd rank = speaking(listener, kNumber);
  const Fd accepted = listener.accept(kNumber, soon(), cancellation, log);
  CHECK(accepted.get() >= 0);
  CHECK(log.lines == std::vector<std::string>{"dropped a connection that sent an unknown rank number"});
}

TEST_CASE("a process without descriptors left is told so") {
  Listener listener(SocketAddress("127.0.0.1", 0), kConnections, "GLOO_SOCKET_IFNAME");
  listener.expect(kNumber);
  Cancellation cancellation;
  Log log;
  const Fd rank = speaking(listener, kNumber);
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
