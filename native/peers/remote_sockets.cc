#include "peers/remote_sockets.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "mesh/awaited_peers.h"
#include "ops/hash.h"
#include "peers/local_sockets.h"

namespace c10d {

namespace {

/// How long nothing is sent before the kernel asks whether the other host is still there, and how often it asks.
constexpr int kKeepaliveSeconds = 30;
constexpr int kKeepaliveInterval = 10;
constexpr int kKeepaliveProbes = 3;

struct ListenerInfo {
  char host_name[64];
  char address[SocketAddress::kWireBytes];
  uint64_t token;
};

/// The number that `rank` presents to the listener that published this token.
int64_t number_of(uint64_t token, int rank) {
  return static_cast<int64_t>(mixed(token, static_cast<uint64_t>(rank)) >> 1);
}

/// A host that goes down sends nothing, and a firewall drops idle connections.
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

void connect_remote(const Config& config, const std::vector<int>& local_ranks, StoreGather& store, const char* variable,
                    Exchange& exchange, const Cancellation& cancellation, std::unique_ptr<Listener>& listener,
                    const std::function<void(int, Fd)>& connected, const std::function<void()>& look) {
  const auto is_local = [&](int rank) { return std::binary_search(local_ranks.begin(), local_ranks.end(), rank); };
  listener = std::make_unique<Listener>(SocketAddress(config.options.get("host", "127.0.0.1"), 0),
                                        static_cast<size_t>(config.world_size), variable);
  ListenerInfo own{};
  const Endpoint endpoint{host_name(), listener->address()};
  endpoint.host_name.copy(own.host_name, sizeof own.host_name - 1);
  std::memcpy(own.address, endpoint.address.wire(), sizeof own.address);
  own.token = random_number();
  // The lower of two ranks listens.
  for (int rank = config.rank + 1; rank < config.world_size; rank++) {
    if (!is_local(rank)) listener->expect(number_of(own.token, rank));
  }
  const auto infos = store.all_gather(&own, sizeof own);
  std::vector<AwaitedPeer> awaited;
  const auto keep = [&](int rank, Fd fd) {
    keep_alive(fd);
    connected(rank, std::move(fd));
  };
  // Lower ranks first, and only then does it wait for the others. So a rank that has not connected is one that is
  // missing.
  for_each_peer(config, [&](int rank) {
    if (is_local(rank)) return;
    const auto& value = infos[static_cast<size_t>(rank)];
    ListenerInfo info{};
    if (value.size() != sizeof info) throw Failure(C10D_ERR_INVALID, "it runs another version of bun-c10d");
    std::memcpy(&info, value.data(), sizeof info);
    info.host_name[sizeof info.host_name - 1] = '\0';
    const auto address = SocketAddress::from_wire(info.address);
    require_reachable({own.host_name, endpoint.address}, {info.host_name, address}, variable);
    const bool same_host = address.has_ip_of(endpoint.address);
    if (rank > config.rank) {
      awaited.push_back({rank, number_of(own.token, rank), ListenerProbe(address, same_host)});
      return;
    }
    const int64_t number = number_of(info.token, config.rank);
    keep(rank, dial(address, number, same_host, config.connect_deadline, cancellation, look));
  });
  accept_all(
      awaited, *listener, config.connect_deadline, cancellation, exchange,
      [&](size_t i, Fd fd) { keep(awaited[i].rank, std::move(fd)); }, look);
}

}  // namespace c10d
