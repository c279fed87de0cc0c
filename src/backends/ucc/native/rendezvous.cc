#include "rendezvous.h"

#include <cstring>

namespace c10d::ucc_shim {

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
    const auto values = rendezvous.store_.all_gather(source, bytes);
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
