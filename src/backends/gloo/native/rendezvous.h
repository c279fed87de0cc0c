// TCP connections between all ranks: who dials whom, the 8-byte handshake, strangers, time-outs, cancellation.
#pragma once

#include <atomic>
#include <unordered_map>
#include <vector>

#include "address.h"
#include "engine/transport.h"

namespace c10d::gloo_shim {

/// File descriptor with an owner.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  int get() const { return fd_; }
  int release();

 private:
  int fd_;
};

/// Lets another thread end a poll.
class Cancellation {
 public:
  Cancellation();
  void cancel() noexcept;
  bool cancelled() const { return cancelled_; }
  int fd() const { return event_.get(); }

 private:
  std::atomic<bool> cancelled_{false};
  Fd event_;
};

/// Listening socket that hands out connections by the number they present. Whoever says something else, or nothing, is
/// dropped.
class Listener {
 public:
  Listener(const SocketAddress& address, size_t backlog);
  const SocketAddress& address() const { return address_; }
  /// The connection that presents `number`. Throws Failure at `deadline` or when cancelled.
  Fd accept(int64_t number, Clock::time_point deadline, const Cancellation& cancellation, Exchange& log);
  /// Numbers that may be presented; others are strangers.
  void expect(int64_t number) { connected_.emplace(number, Fd()); }

 private:
  struct Greeting {
    Fd fd;
    Clock::time_point until;
    size_t got = 0;
    char bytes[sizeof(int64_t)] = {};
  };
  void admit(Exchange& log);
  bool read_greeting(Greeting& greeting, Exchange& log);

  Fd socket_;
  SocketAddress address_;
  std::vector<Greeting> greetings_;
  std::unordered_map<int64_t, Fd> connected_;
};

/// Connects and presents `number`, trying again while nobody listens yet.
Fd dial(const SocketAddress& address, int64_t number, Clock::time_point deadline, const Cancellation& cancellation);

/// Connections to all peers, by rank (the own one stays empty). Keys in the store are "<context>/<rank>".
std::vector<Fd> connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                            const Cancellation& cancellation, const std::string& context);

}  // namespace c10d::gloo_shim
