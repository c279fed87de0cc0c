// How ranks find each other over TCP: a number that each connection presents, strangers, time-outs, cancellation.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "address.h"
#include "engine/transport.h"
#include "socket.h"

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

/// Where a rank listens.
struct Endpoint {
  std::string host_name;
  SocketAddress address;
};

/// Name of this host.
std::string host_name();

/// Throws Failure if two ranks cannot reach each other since one listens on loopback; `variable` chooses the address.
void require_reachable(const Endpoint& own, const Endpoint& peer, const char* variable);

/// Calls `connect(rank)` for the other ranks in order; failures that name no rank then name that one.
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

}  // namespace c10d
