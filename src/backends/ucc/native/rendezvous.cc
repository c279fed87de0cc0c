#include "rendezvous.h"

#include <cstring>
#include <string>

#include "engine/rank_values.h"

namespace c10d::ucc_shim {

std::vector<std::vector<char>> Rendezvous::all_gather(const void* value, size_t bytes) {
  const std::string prefix = "ucc/" + std::to_string(round_++) + "/";
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

ucc_oob_coll_t Rendezvous::callbacks() {
  ucc_oob_coll_t oob{};
  oob.allgather = &Rendezvous::gather;
  oob.req_test = [](void*) { return UCC_OK; };
  oob.req_free = [](void*) { return UCC_OK; };
  oob.coll_info = this;
  oob.n_oob_eps = static_cast<uint32_t>(config_.world_size);
  oob.oob_ep = static_cast<uint32_t>(config_.rank);
  return oob;
}

/// Blocks until all values are there, as connecting may.
ucc_status_t Rendezvous::gather(void* source, void* target, size_t bytes, void* self, void** request) noexcept {
  auto& rendezvous = *static_cast<Rendezvous*>(self);
  *request = self;
  // This all-gather is only a barrier: the values do not matter.
  if (rendezvous.closed_) {
    auto* const lock = rendezvous.last_lock_;
    if (lock != nullptr && !lock->owns_lock()) lock->lock();
    return UCC_OK;
  }
  if (rendezvous.lock_ != nullptr) rendezvous.lock_->unlock();
  const auto failure = attempt([&] {
    const auto values = rendezvous.all_gather(source, bytes);
    auto* at = static_cast<char*>(target);
    for (const auto& value : values) {
      if (value.size() != bytes) throw Failure(C10D_ERR_BACKEND, "the ranks run different versions of UCC");
      std::memcpy(at, value.data(), bytes);
      at += bytes;
    }
  });
  if (rendezvous.lock_ != nullptr) rendezvous.lock_->lock();
  if (!failure) return UCC_OK;
  if (!rendezvous.failure_) rendezvous.failure_ = failure;
  return UCC_ERR_NO_MESSAGE;
}

void Rendezvous::rethrow() const {
  if (failure_) throw Failure(*failure_);
}

}  // namespace c10d::ucc_shim
