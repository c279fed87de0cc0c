// How ranks connect over TCP: the number that each connection presents, strangers, time-outs, cancellation.
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

/// Listening socket that hands out connections by the number in their handshake. Connections that send something else,
/// or nothing, are dropped.
class Listener {
 public:
  /// Expects so many connections. `variable` is the environment variable that selects the address. Throws Failure.
  Listener(const SocketAddress& address, size_t connections, const char* variable);
  const SocketAddress& address() const { return address_; }
  /// The connection that presents `number`. Throws Failure at `deadline` or when cancelled.
  Fd accept(int64_t number, Clock::time_point deadline, const Cancellation& cancellation, Exchange& log);
  /// The first connection that presents one of the numbers, and which. Throws as accept() does.
  std::pair<int64_t, Fd> accept_any(const std::vector<int64_t>& numbers, Clock::time_point deadline,
                                    const Cancellation& cancellation, Exchange& log);
  /// Waits until then at most, accepts connections and reads their handshakes. Throws Failure when cancelled.
  void serve(Clock::time_point until, const Cancellation& cancellation, Exchange& log);
  /// The connection that presented `number`, which must be expected; an empty one if there is none yet.
  Fd take(int64_t number) { return std::move(connected_.at(number)); }
  /// Numbers that may be presented; others are strangers.
  void expect(int64_t number) { connected_.emplace(number, Fd()); }
  /// Undoes expect(), and drops a connection that has presented the number.
  void refuse(int64_t number, Exchange& log);

 private:
  struct Handshake {
    Fd fd;
    Clock::time_point until;
    size_t got = 0;
    char bytes[sizeof(int64_t)] = {};
  };
  void admit(Exchange& log);
  bool read_handshake(Handshake& handshake, Exchange& log);

  Fd socket_;
  SocketAddress address_;
  std::vector<Handshake> handshakes_;
  std::unordered_map<int64_t, Fd> connected_;
};

/// Connects and presents `number`. Peers listen before they publish their addresses, so a peer that refuses connections
/// for a while is lost. On another host that takes longer, since a firewall may answer in its place. `look`, if given,
/// is called now and then, and throws to end the wait. Throws Failure.
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

/// Makes a call that is about one peer: if its failure names no rank, it then names that peer.
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
