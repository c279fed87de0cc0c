#include "rendezvous.h"

#include <optional>
#include <random>
#include <utility>

#include "engine/rank_values.h"
#include "mesh/awaited_peers.h"
#include "rank_value.h"

namespace c10d::gloo_shim {

namespace {

int64_t random_number(std::random_device& device) {
  const uint64_t high = device();
  return static_cast<int64_t>(((high << 32) | device()) >> 1);
}

/// The environment variable that selects the interface.
constexpr const char* kVariable = "GLOO_SOCKET_IFNAME";

/// Published in the place of the own number, which no rank presents: this rank wants direct connections, with headers
/// and mismatch messages of this version.
constexpr int64_t kWantsDirect = 0x62756e2d6c6e3203;
constexpr int64_t kVersionBits = 0xff;

/// Whether this number is from a Bun rank, perhaps with headers of another version: then there are no direct
/// connections.
bool is_bun(int64_t own_number) { return (own_number | kVersionBits) == (kWantsDirect | kVersionBits); }

/// The number that the direct connection of two ranks presents.
int64_t number_of_direct(int64_t number) { return number ^ 0x5a5a5a5a5a5a5a5a; }

}  // namespace

void connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                 const Cancellation& cancellation, const std::string& context, PeerSockets& made) {
  const int size = config.world_size;
  made.peers.resize(static_cast<size_t>(size));
  made.take_mismatches.resize(static_cast<size_t>(size));
  if (size == 1) return;

  made.listener = std::make_unique<Listener>(listen_on, 2 * static_cast<size_t>(size), kVariable);
  Listener& listener = *made.listener;
  RankValue own{host_name(), listener.address(), {}};
  std::random_device random;
  // One direct connection to each rank is enough, however many interfaces there are.
  const bool wants_direct = config.options.get("lines", "1") == "1" && context == "0";
  for (int rank = 0; rank < size; rank++) {
    own.connection_numbers.push_back(random_number(random));
    if (rank == config.rank) {
      if (wants_direct) own.connection_numbers.back() = kWantsDirect;
      continue;
    }
    listener.expect(own.connection_numbers.back());
    // What a PyTorch rank in lazy-init mode presents. Whether this one is such a rank is known from its value.
    listener.expect(rank);
    if (wants_direct) listener.expect(number_of_direct(own.connection_numbers.back()));
  }
  const auto bytes = own.encode();
  exchange.set(context + "/" + std::to_string(config.rank), bytes.data(), bytes.size());

  std::vector<uint64_t> requests(static_cast<size_t>(size));
  for (int rank = 0; rank < size; rank++) {
    if (rank != config.rank) requests[rank] = exchange.request(context + "/" + std::to_string(rank));
  }
  bool all_want_direct = wants_direct;
  std::vector<RankValue> values(static_cast<size_t>(size));
  std::vector<bool> dials(static_cast<size_t>(size));
  std::vector<bool> bun(static_cast<size_t>(size));
  const auto take_value = [&](int rank, const std::vector<char>& bytes) {
    values[rank] = RankValue::decode(bytes, size);
    const RankValue& peer = values[rank];
    require_reachable({own.host_name, own.address}, {peer.host_name, peer.address}, kVariable);
    dials[rank] = own.address.compare(peer.address) >= 0;
    const int64_t number = peer.connection_numbers.empty() ? 0 : peer.connection_numbers[rank];
    made.take_mismatches[rank] = number == kWantsDirect;
    if (number != kWantsDirect) all_want_direct = false;
    bun[rank] = is_bun(number);
    if (!bun[rank]) made.foreign = rank;
    // A PyTorch rank in lazy-init mode publishes no numbers, and dials at its first op with this rank.
    if (peer.connection_numbers.empty() && !dials[rank]) {
      made.late.push_back({rank, own.connection_numbers[rank]});
      made.late.push_back({rank, rank});
    } else {
      listener.refuse(rank, exchange);
    }
  };
  await_ranks(config, exchange, requests,
              [&](int rank, const std::vector<char>& bytes) { with_peer(rank, [&] { take_value(rank, bytes); }); });
  if (all_want_direct) made.direct.resize(static_cast<size_t>(size));
  // Every rank dials before it waits for others, so the ranks that have not dialed are the missing ones.
  const auto same_host = [&](int rank) { return values[rank].address.has_ip_of(own.address); };
  for_each_peer(config, [&](int rank) {
    if (!dials[rank]) return;
    const RankValue& peer = values[rank];
    const auto connect = [&](int64_t number) {
      return dial(peer.address, number, same_host(rank), config.connect_deadline, cancellation);
    };
    // A peer that publishes no numbers expects the rank that dials.
    const int64_t number = peer.connection_numbers.empty() ? config.rank : peer.connection_numbers[config.rank];
    made.peers[rank] = connect(number);
    if (all_want_direct) made.direct[rank] = connect(number_of_direct(number));
  });
  std::vector<AwaitedPeer> awaited;
  std::vector<Fd*> slots;
  const auto await = [&](int rank, int64_t number, Fd& slot) {
    std::optional<ListenerProbe> probe;
    if (bun[rank]) probe.emplace(values[rank].address, same_host(rank));
    awaited.push_back({rank, number, std::move(probe)});
    slots.push_back(&slot);
  };
  for (int rank = 0; rank < size; rank++) {
    if (rank == config.rank || dials[rank] || values[rank].connection_numbers.empty()) continue;
    await(rank, own.connection_numbers[rank], made.peers[rank]);
    if (all_want_direct) await(rank, number_of_direct(own.connection_numbers[rank]), made.direct[rank]);
  }
  accept_all(awaited, listener, config.connect_deadline, cancellation, exchange,
             [&](size_t i, Fd connection) { *slots[i] = std::move(connection); });
}

}  // namespace c10d::gloo_shim
