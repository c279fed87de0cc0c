// Connections to the ranks of other hosts, over TCP.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "mesh/listener.h"
#include "rendezvous.h"

namespace c10d::ucc_shim {

/// Connects to each rank that is not in `here`, and hands each connection to `connected` as it comes; `look` is called now and
/// then, and throws to end it. All ranks of the group call it if it has such ranks. The listener stays. Throws Failure.
void connect_hosts(const Config& config, const std::vector<int>& here, Rendezvous& rendezvous, Exchange& exchange,
                   const Cancellation& cancellation, std::unique_ptr<Listener>& listener,
                   const std::function<void(int, Fd)>& connected, const std::function<void()>& look);

}  // namespace c10d::ucc_shim
