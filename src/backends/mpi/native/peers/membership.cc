#include "peers/membership.h"

namespace c10d::mpi_shim {

std::vector<PeerMessage> Membership::received_since(size_t& seen) {
  if (received_count_.load(std::memory_order_acquire) == seen) return {};
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<PeerMessage> fresh(received_.begin() + static_cast<std::ptrdiff_t>(seen), received_.end());
  seen = received_.size();
  return fresh;
}

}  // namespace c10d::mpi_shim
