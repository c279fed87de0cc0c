// How a UccTransport withholds a mismatch from the engine while other ranks still need this one.
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "ucc_transport.h"

namespace c10d::ucc_shim {

namespace {

/// How long to go on driving UCC after a mismatch, so that the other ranks find it too.
constexpr std::chrono::milliseconds kOthersCompare{50};

}  // namespace

bool UccTransport::holds_back(const Failure& failure, const Op* next) {
  if (!call_table_ || !all_local() || failure.collective() == 0) return false;
  divergence_.note(failure);
  mismatch_.record(failure);
  if (mismatch_.held() || mismatch_.reported())
    return mismatch_.held() && (next == nullptr || divergence_.reaches(*next));
  bool reached = next != nullptr && divergence_.reaches(*next);
  for (const auto& running : running_) reached = reached || (running && divergence_.reaches(running->op()));
  if (reached && !is_in_earlier() && others_are_in_earlier()) {
    mismatch_.hold();
  } else {
    mismatch_.report();
  }
  return mismatch_.held();
}

bool UccTransport::is_in_earlier() const {
  return std::any_of(running_.begin(), running_.end(), [&](const auto& running) {
    return running && !running->op().point_to_point() && !divergence_.reaches(running->op());
  });
}

bool UccTransport::others_are_in_earlier() const {
  const uint64_t ticket = mismatch_.ticket_before();
  const auto& ranks = call_table_->local_ranks();
  for (size_t place = 0; place < ranks.size(); place++) {
    const bool out = ranks[place] == config_.rank || peers_.is_out(ranks[place]);
    if (!out && !call_table_->has_ended(place, ticket)) return true;
  }
  return false;
}

void UccTransport::wait_for_others(std::vector<Op*>& ended) {
  auto deadline = Clock::time_point::max();
  for (const auto& running : running_) deadline = std::min(deadline, running->op().deadline);
  const bool waits = mismatch_.held() || withheld_ != nullptr;
  const bool over = !others_are_in_earlier() || (waits && mismatch_.is_due(deadline));
  if (mismatch_.held() && over) return report_mismatch(ended);
  if (withheld_ != nullptr && over) ended.push_back(std::exchange(withheld_, nullptr));
  if (over || withheld_ != nullptr || ended.empty() || is_in_earlier()) return;
  const Op& last = *ended.back();
  if (last.failure || last.point_to_point() || divergence_.reaches(last)) return;
  mismatch_.postpone();
  withheld_ = ended.back();
  ended.pop_back();
}

void UccTransport::report_mismatch(std::vector<Op*>& ended) {
  mismatch_.report();
  size_t kept = 0;
  for (auto& running : running_) {
    Op& op = running->op();
    if (!divergence_.reaches(op)) {
      running_[kept++].swap(running);
      continue;
    }
    op.failure = mismatch_.failure();
    ended.push_back(&op);
    abandoned_.push_back(std::move(running));
  }
  running_.resize(kept);
  update_oldest();
}

void UccTransport::let_others_compare() {
  for (const auto until = Clock::now() + kOthersCompare; Clock::now() < until; ::sched_yield()) team_->progress();
}

}  // namespace c10d::ucc_shim
