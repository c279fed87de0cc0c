#include "peers/store_gather.h"

#include <cstdint>

#include "engine/rank_values.h"

namespace c10d {

std::vector<std::vector<char>> StoreGather::all_gather(const void* value, size_t bytes) {
  const std::string prefix = name_ + "/" + std::to_string(round_++) + "/";
  const auto ranks = static_cast<size_t>(config_.world_size);
  const auto own = static_cast<size_t>(config_.rank);
  exchange_.set(prefix + std::to_string(own), value, bytes);
  std::vector<uint64_t> requests(ranks);
  for (size_t rank = 0; rank < ranks; rank++) {
    if (rank != own) requests[rank] = exchange_.request(prefix + std::to_string(rank));
  }
  std::vector<std::vector<char>> values(ranks);
  const auto take = [&](int rank, std::vector<char> bytes) { values[static_cast<size_t>(rank)] = std::move(bytes); };
  await_ranks(config_, exchange_, requests, take, look_);
  const auto* from = static_cast<const char*>(value);
  values[own].assign(from, from + bytes);
  return values;
}

}  // namespace c10d
