// TCP connections between all ranks: who dials whom, the 8-byte handshake, strangers, time-outs, cancellation.
#pragma once

#include <atomic>
#include <memory>
#include <unordered_map>
#include <utility>
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
  /// The first connection that presents one of the numbers, and which. Throws as accept() does.
  std::pair<int64_t, Fd> accept_any(const std::vector<int64_t>& numbers, Clock::time_point deadline,
                                    const Cancellation& cancellation, Exchange& log);
  /// Numbers that may be presented; others are strangers.
  void expect(int64_t number) { connected_.emplace(number, Fd()); }
  /// Takes back expect(), and drops who has presented it.
  void refuse(int64_t number, Exchange& log);

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

/// A rank that connects when it has something to say, and a number that it may present then.
struct LatePeer {
  int rank;
  int64_t number;
};

/// Connections by rank; the own entries stay empty.
struct Connections {
  std::vector<Fd> peers;
  /// Those of `peers` that are not there yet, and the socket that they come to.
  std::vector<LatePeer> late;
  std::unique_ptr<Listener> listener;
  /// A second one to each, where all ranks are Bun's and want it; else there are none.
  std::vector<Fd> lines;
  /// A rank that is not Bun's, or -1.
  int foreign = -1;
};

/// Connects all ranks. Keys in the store are "<context>/<rank>".
Connections connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                        const Cancellation& cancellation, const std::string& context);

}  // namespace c10d::gloo_shim
