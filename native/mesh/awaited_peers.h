// Waits for peers that connect to this rank, and names those that do not or that are lost.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "mesh/listener.h"

namespace c10d {

/// Connects to the address of a peer now and then, without sending anything, to see whether the peer still listens.
class ListenerProbe {
 public:
  /// If nothing listens there, the peer is lost. On another host that holds only if it was seen to listen before, since
  /// a firewall may answer in its place.
  ListenerProbe(const SocketAddress& address, bool same_host) : address_(address), listened_(same_host) {}
  /// Whether the peer is lost. Does not block.
  bool finds_lost(Clock::time_point now);

 private:
  void begin(Clock::time_point now);
  void record(int error, Clock::time_point now);

  SocketAddress address_;
  bool listened_;
  Fd socket_;
  Clock::time_point began_;
  Clock::time_point next_;
  std::chrono::milliseconds pause_{0};
  int refusals_ = 0;
};

/// A peer that dials this rank.
struct AwaitedPeer {
  int rank;
  int64_t number;
  /// Not for a peer that could take the probe for a rank, such as one of PyTorch.
  std::optional<ListenerProbe> probe;
};

/// Waits for the connections of these peers, and passes each to `arrived` with the index of its peer. `look`, if given,
/// is called now and then, and throws to end the wait. Throws Failure naming the ranks that have not connected by the
/// deadline, or one that is lost.
void accept_all(std::vector<AwaitedPeer>& peers, Listener& listener, Clock::time_point deadline,
                const Cancellation& cancellation, Exchange& log, const std::function<void(size_t, Fd)>& arrived,
                const std::function<void()>& look = nullptr);

}  // namespace c10d
