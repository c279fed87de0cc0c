// Connections to the ranks of other hosts, over TCP.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "mesh/listener.h"
#include "peers/store_gather.h"

namespace c10d {

/// Connects to each rank that is not in `local_ranks`, and passes each connection to `connected`. `look` is called now
/// and then, and throws to end it. All ranks of a group that has such ranks call it. The listener stays open. Throws
/// Failure.
void connect_remote(const Config& config, const std::vector<int>& local_ranks, StoreGather& store, const char* variable,
                    Exchange& exchange, const Cancellation& cancellation, std::unique_ptr<Listener>& listener,
                    const std::function<void(int, Fd)>& connected, const std::function<void()>& look);

}  // namespace c10d
