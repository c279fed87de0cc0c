// Collectives that this rank has refused. They take a place among its calls all the same: ranks that have all refused a call
// stay in step, and one that did so alone does not.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

namespace c10d::ucc_shim {

/// For any thread.
class Refusals {
 public:
  /// One was refused after so many collectives.
  void add(uint64_t collectives) {
    const std::lock_guard<std::mutex> lock(mutex_);
    after_.push_back(collectives);
    any_ = true;
  }

  /// How many were refused before the collective with this ticket.
  uint64_t before(uint64_t ticket) const {
    if (!any_) return 0;
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<uint64_t>(std::lower_bound(after_.begin(), after_.end(), ticket) - after_.begin());
  }

 private:
  mutable std::mutex mutex_;
  std::vector<uint64_t> after_;
  std::atomic<bool> any_{false};
};

}  // namespace c10d::ucc_shim
