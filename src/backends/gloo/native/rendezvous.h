// TCP connections between all ranks: which rank dials which, and with which numbers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/transport.h"
#include "mesh/address.h"
#include "mesh/listener.h"
#include "mesh/socket.h"

namespace c10d::gloo_shim {

/// A rank that connects when it has something to send, and a number that it may present then.
struct LatePeer {
  int rank;
  int64_t number;
};

/// Sockets by rank; the own entries stay empty.
struct PeerSockets {
  std::vector<Fd> peers;
  /// Peers that connect later, and the socket on which they do.
  std::vector<LatePeer> late;
  std::unique_ptr<Listener> listener;
  /// A second one to each peer, for collectives without Gloo. Empty unless all ranks are Bun ranks that want it.
  std::vector<Fd> direct;
  /// Whether each rank is a Bun rank that understands mismatch messages. On the first interface only.
  std::vector<bool> take_mismatches;
  /// A rank that is not a Bun rank, or -1.
  int foreign = -1;
};

/// Connects all ranks. Keys in the store are "<context>/<rank>". When it throws, sockets that were made stay open in
/// `made`: otherwise other ranks would take this one for lost before they can learn the reason.
void connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                 const Cancellation& cancellation, const std::string& context, PeerSockets& made);

}  // namespace c10d::gloo_shim
