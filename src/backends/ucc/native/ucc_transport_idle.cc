// How the thread that drives a UccTransport sleeps while nothing happens.
#include <sched.h>

#include <algorithm>
#include <chrono>

#include "ucc_transport.h"

namespace c10d::ucc_shim {

namespace {

using std::chrono::microseconds;

/// How long to go on polling when nothing happens: while a rank has not arrived yet, and while the data is in flight.
constexpr microseconds kPatience{100};
constexpr microseconds kPatienceForData{5'000};
/// The lowest rate of transfer to expect, in bytes per microsecond.
constexpr uint64_t kSlowestRate = 256;
/// After that, each pause is this fraction of the time waited so far, which also limits how late an event is noticed.
constexpr int kWaitedPerPause = 8;
constexpr microseconds kShortestPause{20};
constexpr microseconds kLongestPause{400};
/// Where a rank that arrives ends the pause.
constexpr microseconds kLongestPauseForRank{2'000};

}  // namespace

void UccTransport::pause_if_idle() {
  const auto now = Clock::now();
  if (idle_since_ == Clock::time_point::max()) idle_since_ = now;
  const auto idle = std::chrono::duration_cast<microseconds>(now - idle_since_);
  if (idle < kPatience) return;
  if (compare_calls()) {
    idle_since_ = now;
    return;
  }
  const auto for_data = patience_for_data();
  if (idle < for_data) {
    // The engine has yielded a hundred times by now and does not do so any more.
    ::sched_yield();
    return;
  }
  paused_ = true;
  if (call_table_) {
    call_table_->set_asleep(true);
    if (compare_calls()) return stay_awake();
  }
  const bool woken_by_rank = all_local() && !mismatch_.known() && for_data == microseconds::zero();
  peers_.set_timer(
      std::clamp(idle / kWaitedPerPause, kShortestPause, woken_by_rank ? kLongestPauseForRank : kLongestPause));
}

bool UccTransport::have_all_arrived(const Running& running) const {
  const bool message = running.op().point_to_point();
  if (!all_local()) return !message && !running.compares();
  return call_table_ && (message ? !running.awaits_header() : running.entry.missing.empty());
}

std::chrono::microseconds UccTransport::patience_for_data() const {
  microseconds longest{0};
  for (const auto& running : running_) {
    if (is_held(running->op()) || !have_all_arrived(*running)) continue;
    const Op& op = running->op();
    longest = std::max(longest, kPatienceForData + microseconds(bytes_of(op) / kSlowestRate));
  }
  return longest;
}

}  // namespace c10d::ucc_shim
