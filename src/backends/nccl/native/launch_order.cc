#include "launch_order.h"

namespace c10d::nccl_shim {

namespace {

/// How long an op waits for those before it.
constexpr std::chrono::milliseconds kPatience{50};

}  // namespace

LaunchOrder& LaunchOrder::of(int device) {
  static std::mutex mutex;
  // Groups of threads that run until the process ends may use it.
  static auto* const all = new std::map<int, LaunchOrder>;
  const std::lock_guard<std::mutex> lock(mutex);
  return (*all)[device];
}

uint64_t LaunchOrder::take(const Member* member) {
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_.emplace_hint(waiting_.end(), ++last_, member);
  return last_;
}

bool LaunchOrder::may_launch(uint64_t turn, Clock::time_point waiting_since) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_.empty() || waiting_.begin()->first >= turn) return true;
  if (Clock::now() - waiting_since < kPatience) return false;
  // Those before it hold up nobody else either.
  waiting_.erase(waiting_.begin(), waiting_.lower_bound(turn));
  return true;
}

void LaunchOrder::give_back(uint64_t turn) {
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_.erase(turn);
}

void LaunchOrder::leave(const Member* member) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    at = at->second == member ? waiting_.erase(at) : std::next(at);
  }
}

}  // namespace c10d::nccl_shim
