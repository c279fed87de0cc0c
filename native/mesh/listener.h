// How ranks find each other over TCP: a number that each connection presents, strangers, time-outs, cancellation.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/transport.h"
#include "mesh/address.h"
#include "mesh/socket.h"

namespace c10d {

/// Listening socket that hands out connections by the number they present. Whoever says something else, or nothing, is
/// dropped.
class Listener {
 public:
  /// For so many connections; `variable` is the one of the environment that chooses the address. Throws Failure.
  Listener(const SocketAddress& address, size_t connections, const char* variable);
  const SocketAddress& address() const { return address_; }
  /// The connection that presents `number`. Throws Failure at `deadline` or when cancelled.
  Fd accept(int64_t number, Clock::time_point deadline, const Cancellation& cancellation, Exchange& log);
  /// The first connection that presents one of the numbers, and which. Throws as accept() does.
  std::pair<int64_t, Fd> accept_any(const std::vector<int64_t>& numbers, Clock::time_point deadline,
                                    const Cancellation& cancellation, Exchange& log);
  /// Takes in what comes until then, at the latest. Throws Failure when cancelled.
  void serve(Clock::time_point until, const Cancellation& cancellation, Exchange& log);
  /// The connection that has presented `number`, which is expected; none if that has not come yet.
  Fd take(int64_t number) { return std::move(connected_.at(number)); }
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

/// Connects and presents `number`, trying again for a while if nobody listens, which a peer has done before it published its
/// address: it has gone then, on this host at once, on another one unless it is a firewall that answers. `look`, if given, is
/// called now and then, and throws to end it. Throws Failure.
Fd dial(const SocketAddress& address, int64_t number, bool same_host, Clock::time_point deadline,
        const Cancellation& cancellation, const std::function<void()>& look = nullptr);

/// Where a rank listens.
struct Endpoint {
  std::string host_name;
  SocketAddress address;
};

/// Name of this host.
std::string host_name();

/// Throws Failure if two ranks cannot reach each other since one listens on loopback; `variable` chooses the address.
void require_reachable(const Endpoint& own, const Endpoint& peer, const char* variable);

/// Makes a call that has to do with one peer: a failure that names no rank then names that one.
template <class Call>
void with_peer(int rank, Call call) {
  try {
    call();
  } catch (const Failure& failure) {
    if (failure.peer() >= 0 || failure.status() == C10D_ERR_ABORTED) throw;
    throw failure.about(rank, "connecting to rank " + std::to_string(rank) + ": ");
  }
}

/// Calls `connect(rank)` for the other ranks in order.
template <class Connect>
void for_each_peer(const Config& config, Connect connect) {
  for (int rank = 0; rank < config.world_size; rank++) {
    if (rank != config.rank) with_peer(rank, [&] { connect(rank); });
  }
}

}  // namespace c10d
