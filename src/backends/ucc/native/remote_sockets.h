// Connections to the ranks of other hosts, over TCP.
#pragma once

#include <map>
#include <vector>

#include "mesh/socket.h"
#include "rendezvous.h"

namespace c10d::ucc_shim {

/// One to each rank that is not in `here`, by rank. All ranks of the group call it if it has such ranks. Throws Failure.
std::map<int, Fd> connect_hosts(const Config& config, const std::vector<int>& here, Rendezvous& rendezvous,
                                Exchange& exchange, const Cancellation& cancellation);

}  // namespace c10d::ucc_shim
