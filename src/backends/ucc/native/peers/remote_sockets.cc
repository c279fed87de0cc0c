#include "peers/remote_sockets.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "engine/hash.h"
#include "mesh/awaited_peers.h"
#include "peers/local_sockets.h"

namespace c10d::ucc_shim {

namespace {

/// Chooses the interface.
constexpr const char* kVariable = "UCX_NET_DEVICES";

/// How long nothing is sent before the kernel asks whether the other host is still there, and how often it asks.
constexpr int kKeepaliveSeconds = 30;
constexpr int kKeepaliveInterval = 10;
constexpr int kKeepaliveProbes = 3;

struct Place {
  char host_name[64];
  char address[SocketAddress::kWireBytes];
  uint64_t token;
};

/// What `rank` presents to the listener whose place has this token.
int64_t number_of(uint64_t token, int rank) {
  return static_cast<int64_t>(mixed(token, static_cast<uint64_t>(rank)) >> 1);
}

/// A host that goes down says nothing, and a firewall forgets connections on which nothing is said.
void keep_alive(const Fd& fd) {
  const auto set = [&](int level, int option, int value) {
    ::setsockopt(fd.get(), level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveInterval);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
}

}  // namespace

void connect_hosts(const Config& config, const std::vector<int>& here, Rendezvous& rendezvous, Exchange& exchange,
                   const Cancellation& cancellation, std::unique_ptr<Listener>& listener,
                   const std::function<void(int, Fd)>& connected, const std::function<void()>& look) {
  const auto is_here = [&](int rank) { return std::binary_search(here.begin(), here.end(), rank); };
  listener = std::make_unique<Listener>(SocketAddress(config.options.get("host", "127.0.0.1"), 0),
                                        static_cast<size_t>(config.world_size), kVariable);
  Place own{};
  const Endpoint endpoint{host_name(), listener->address()};
  endpoint.host_name.copy(own.host_name, sizeof own.host_name - 1);
  std::memcpy(own.address, endpoint.address.wire(), sizeof own.address);
  own.token = random_number();
  // Who has a lower rank listens.
  for (int rank = config.rank + 1; rank < config.world_size; rank++) {
    if (!is_here(rank)) listener->expect(number_of(own.token, rank));
  }
  const auto places = rendezvous.all_gather(&own, sizeof own);
  std::vector<AwaitedPeer> awaited;
  const auto keep = [&](int rank, Fd fd) {
    keep_alive(fd);
    connected(rank, std::move(fd));
  };
  // Those of lower rank before any of the others is waited for: so those who have not dialed are those who are missing.
  for_each_peer(config, [&](int rank) {
    if (is_here(rank)) return;
    const auto& value = places[static_cast<size_t>(rank)];
    Place place{};
    if (value.size() != sizeof place) throw Failure(C10D_ERR_INVALID, "it runs another version of bun-c10d");
    std::memcpy(&place, value.data(), sizeof place);
    place.host_name[sizeof place.host_name - 1] = '\0';
    const auto address = SocketAddress::from_wire(place.address);
    require_reachable({own.host_name, endpoint.address}, {place.host_name, address}, kVariable);
    const bool same_host = address.has_ip_of(endpoint.address);
    if (rank > config.rank) {
      awaited.push_back({rank, number_of(own.token, rank), ListenerProbe(address, same_host)});
      return;
    }
    const int64_t number = number_of(place.token, config.rank);
    keep(rank, dial(address, number, same_host, config.connect_deadline, cancellation, look));
  });
  accept_all(
      awaited, *listener, config.connect_deadline, cancellation, exchange,
      [&](size_t i, Fd fd) { keep(awaited[i].rank, std::move(fd)); }, look);
}

}  // namespace c10d::ucc_shim
