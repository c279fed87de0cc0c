#include "rendezvous.h"

#include <random>

#include "rank_value.h"

namespace c10d::gloo_shim {

namespace {

int64_t random_number(std::random_device& device) {
  const uint64_t high = device();
  return static_cast<int64_t>(((high << 32) | device()) >> 1);
}

/// Chooses the interface.
constexpr const char* kVariable = "GLOO_SOCKET_IFNAME";

/// In the place of its own number, which nobody presents: the rank is ready for lines, with headers of this version.
constexpr int64_t kTalksLines = 0x62756e2d6c6e3202;
constexpr int64_t kVersionBits = 0xff;

/// Whether a rank that publishes this is Bun's, perhaps with headers of another version: those two do without lines.
bool is_bun(int64_t own_number) { return (own_number | kVersionBits) == (kTalksLines | kVersionBits); }

/// The number that the second connection of two ranks presents.
int64_t number_of_line(int64_t number) { return number ^ 0x5a5a5a5a5a5a5a5a; }

}  // namespace

Connections connect_all(const Config& config, const SocketAddress& listen_on, Exchange& exchange,
                        const Cancellation& cancellation, const std::string& context) {
  const int size = config.world_size;
  Connections made;
  made.peers.resize(static_cast<size_t>(size));
  if (size == 1) return made;

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
  // Gloo's connections first: a rank that is not Bun's knows of no others.
  bool all_talk_lines = wants_lines;
  std::vector<RankValue> values(static_cast<size_t>(size));
  const auto connect_to = [&](int rank, const auto& variant) {
    const RankValue& peer = values[rank];
    if (own.address.compare(peer.address) < 0) {
      return listener.accept(variant(own.connection_numbers[rank]), config.connect_deadline, cancellation, exchange);
    }
    // A peer that publishes no numbers wants to be told who dials.
    const int64_t number = peer.connection_numbers.empty() ? config.rank : peer.connection_numbers[config.rank];
    return dial(peer.address, variant(number), config.connect_deadline, cancellation);
  };
  for_each_peer(config, [&](int rank) {
    values[rank] = RankValue::decode(exchange.await(requests[rank], config.connect_deadline), size);
    const RankValue& peer = values[rank];
    require_reachable({own.host_name, own.address}, {peer.host_name, peer.address}, kVariable);
    const int64_t number = peer.connection_numbers.empty() ? 0 : peer.connection_numbers[rank];
    if (number != kTalksLines) all_talk_lines = false;
    if (!is_bun(number)) made.foreign = rank;
    // A PyTorch rank in lazy-init mode publishes no numbers, and dials when it first has to do with this one.
    if (peer.connection_numbers.empty() && own.address.compare(peer.address) < 0) {
      made.late.push_back({rank, own.connection_numbers[rank]});
      made.late.push_back({rank, rank});
    } else {
      listener.refuse(rank, exchange);
      made.peers[rank] = connect_to(rank, [](int64_t number) { return number; });
    }
  });
  if (!all_talk_lines) return made;
  made.lines.resize(static_cast<size_t>(size));
  for_each_peer(config, [&](int rank) { made.lines[rank] = connect_to(rank, number_of_line); });
  return made;
}

}  // namespace c10d::gloo_shim
