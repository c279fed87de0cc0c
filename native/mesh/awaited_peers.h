// Peers that are to connect to this rank: who they are when they do not come, and whether they are still there.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "mesh/listener.h"

namespace c10d {

/// Connects to an address that a peer listens at, now and then and without a word, to see whether it still does.
class ListenerProbe {
 public:
  /// Nobody who listens there means that the peer has gone: on this host surely, on another one only if it has listened before,
  /// since a firewall may answer in its place.
  ListenerProbe(const SocketAddress& address, bool same_host) : address_(address), listened_(same_host) {}
  /// Whether the peer has gone. Does not block.
  bool finds_gone(Clock::time_point now);

 private:
  void begin(Clock::time_point now);
  void note(int error, Clock::time_point now);

  SocketAddress address_;
  bool listened_;
  Fd socket_;
  Clock::time_point begun_;
  Clock::time_point next_;
  std::chrono::milliseconds pause_{0};
  int refusals_ = 0;
};

/// A peer that dials this rank.
struct AwaitedPeer {
  int rank;
  int64_t number;
  /// Not for one of another kind, which may take such a connection amiss.
  std::optional<ListenerProbe> probe;
};

/// Waits for the connections of these peers and hands each to `arrived`, with the place of the peer, as it comes. `look`, if
/// given, is called now and then, and throws to end it. Throws Failure naming the ranks that have not come by the deadline, or
/// one that has gone.
void accept_all(std::vector<AwaitedPeer>& peers, Listener& listener, Clock::time_point deadline,
                const Cancellation& cancellation, Exchange& log, const std::function<void(size_t, Fd)>& arrived,
                const std::function<void()>& look = nullptr);

}  // namespace c10d
