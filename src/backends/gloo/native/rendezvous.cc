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

/// Chooses the interface.
constexpr const char* kVariable = "GLOO_SOCKET_IFNAME";

/// In the place of its own number, which nobody presents: the rank is ready for lines, with headers and notes of this version.
constexpr int64_t kTalksLines = 0x62756e2d6c6e3203;
constexpr int64_t kVersionBits = 0xff;

/// Whether a rank that publishes this is Bun's, perhaps with headers of another version: those two do without lines.
bool is_bun(int64_t own_number) { return (own_number | kVersionBits) == (kTalksLines | kVersionBits); }

/// The number that the second connection of two ranks presents.
int64_t number_of_line(int64_t number) { return number ^ 0x5a5a5a5a5a5a5a5a; }

}  // namespace

void connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                 const Cancellation& cancellation, const std::string& context, Connections& made) {
  const int size = config.world_size;
  made.peers.resize(static_cast<size_t>(size));
  if (size == 1) return;

  made.listener = std::make_unique<Listener>(listen_on, 2 * static_cast<size_t>(size), kVariable);
  Listener& listener = *made.listener;
  RankValue own{host_name(), listener.address(), {}};
  std::random_device random;
  // One line to each rank is enough, however many interfaces there are.
  const bool wants_lines = config.options.get("lines", "1") == "1" && context == "0";
  for (int rank = 0; rank < size; rank++) {
    own.connection_numbers.push_back(random_number(random));
    if (rank == config.rank) {
      if (wants_lines) own.connection_numbers.back() = kTalksLines;
      continue;
    }
    listener.expect(own.connection_numbers.back());
    // What a PyTorch rank in lazy-init mode presents; whether this one is such a rank, its value will tell.
    listener.expect(rank);
    if (wants_lines) listener.expect(number_of_line(own.connection_numbers.back()));
  }
  const auto bytes = own.encode();
  exchange.set(context + "/" + std::to_string(config.rank), bytes.data(), bytes.size());

  std::vector<uint64_t> requests(static_cast<size_t>(size));
  for (int rank = 0; rank < size; rank++) {
    if (rank != config.rank) requests[rank] = exchange.request(context + "/" + std::to_string(rank));
  }
  bool all_talk_lines = wants_lines;
  std::vector<RankValue> values(static_cast<size_t>(size));
  std::vector<bool> dials(static_cast<size_t>(size));
  std::vector<bool> bun(static_cast<size_t>(size));
  const auto take_value = [&](int rank, const std::vector<char>& bytes) {
    values[rank] = RankValue::decode(bytes, size);
    const RankValue& peer = values[rank];
    require_reachable({own.host_name, own.address}, {peer.host_name, peer.address}, kVariable);
    dials[rank] = own.address.compare(peer.address) >= 0;
    const int64_t number = peer.connection_numbers.empty() ? 0 : peer.connection_numbers[rank];
    if (number != kTalksLines) all_talk_lines = false;
    bun[rank] = is_bun(number);
    if (!bun[rank]) made.foreign = rank;
    // A PyTorch rank in lazy-init mode publishes no numbers, and dials when it first has to do with this one.
    if (peer.connection_numbers.empty() && !dials[rank]) {
      made.late.push_back({rank, own.connection_numbers[rank]});
      made.late.push_back({rank, rank});
    } else {
      listener.refuse(rank, exchange);
    }
  };
  await_ranks(config, exchange, requests,
              [&](int rank, const std::vector<char>& bytes) { with_peer(rank, [&] { take_value(rank, bytes); }); });
  if (all_talk_lines) made.lines.resize(static_cast<size_t>(size));
  // Whoever is there dials before it waits for anybody: so those who have not dialed are those who are missing.
  const auto same_host = [&](int rank) { return values[rank].address.has_ip_of(own.address); };
  for_each_peer(config, [&](int rank) {
    if (!dials[rank]) return;
    const RankValue& peer = values[rank];
    const auto connect = [&](int64_t number) {
      return dial(peer.address, number, same_host(rank), config.connect_deadline, cancellation);
    };
    // A peer that publishes no numbers wants to be told who dials.
    const int64_t number = peer.connection_numbers.empty() ? config.rank : peer.connection_numbers[config.rank];
    made.peers[rank] = connect(number);
    if (all_talk_lines) made.lines[rank] = connect(number_of_line(number));
  });
  std::vector<AwaitedPeer> awaited;
  std::vector<Fd*> places;
  const auto await = [&](int rank, int64_t number, Fd& place) {
    std::optional<ListenerProbe> probe;
    if (bun[rank]) probe.emplace(values[rank].address, same_host(rank));
    awaited.push_back({rank, number, std::move(probe)});
    places.push_back(&place);
  };
  for (int rank = 0; rank < size; rank++) {
    if (rank == config.rank || dials[rank] || values[rank].connection_numbers.empty()) continue;
    await(rank, own.connection_numbers[rank], made.peers[rank]);
    if (all_talk_lines) await(rank, number_of_line(own.connection_numbers[rank]), made.lines[rank]);
  }
  accept_all(awaited, listener, config.connect_deadline, cancellation, exchange,
             [&](size_t i, Fd connection) { *places[i] = std::move(connection); });
}

}  // namespace c10d::gloo_shim
