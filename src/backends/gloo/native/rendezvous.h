// TCP connections between all ranks: who dials whom, with which numbers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/transport.h"
#include "mesh/address.h"
#include "mesh/listener.h"
#include "mesh/socket.h"

namespace c10d::gloo_shim {

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

/// Connects all ranks. Keys in the store are "<context>/<rank>". What there is already stays in `made` when it throws: others
/// shall not take this rank for one that has gone before they can know why.
void connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                 const Cancellation& cancellation, const std::string& context, Connections& made);

}  // namespace c10d::gloo_shim
