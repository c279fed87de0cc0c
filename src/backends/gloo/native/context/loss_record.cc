#include "context/loss_record.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "context/gloo_error.h"

namespace c10d::gloo_shim {

namespace {

constexpr const char* kReset = "Connection reset by peer";

/// How long after a loss, resets by other ranks are taken for its consequence.
constexpr std::chrono::milliseconds kSameCause{500};

bool contains(const std::string& what, const char* text) { return what.find(text) != std::string::npos; }

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return exception.what();
  } catch (...) {
    return "unknown exception";
  }
}

}  // namespace

void LossRecord::watch(std::function<void(const Failure&)> on_reset) {
  const std::lock_guard<std::mutex> lock(mutex_);
  on_reset_ = std::move(on_reset);
}

void LossRecord::add(int rank, const std::exception_ptr& error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string what = message_of(error);
  losses_.push_back({rank, what, std::chrono::steady_clock::now()});
  changed_.notify_all();
  if (on_reset_ && contains(what, kReset)) on_reset_(describe(cause_of(losses_.back())));
}

void LossRecord::add_mismatch(const Mismatch& mismatch) {
  const auto place = [](const Mismatch& each) {
    auto ranks = each.failure.ranks();
    std::sort(ranks.begin(), ranks.end());
    return std::tuple(each.apart, each.failure.collective(), std::move(ranks));
  };
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!mismatch_ || place(mismatch) < place(*mismatch_)) mismatch_.emplace(mismatch);
  changed_.notify_all();
}

std::optional<LossRecord::Mismatch> LossRecord::mismatch() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return mismatch_;
}

void LossRecord::await(int rank, std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_until(lock, deadline, [&] {
    return mismatch_ ||
           std::any_of(losses_.begin(), losses_.end(), [&](const Loss& loss) { return loss.rank == rank; });
  });
}

const LossRecord::Loss& LossRecord::cause_of(const Loss& loss) const {
  if (!contains(loss.what, kReset)) return loss;
  return *std::find_if(losses_.begin(), losses_.end(),
                       [&](const Loss& candidate) { return loss.at - candidate.at < kSameCause; });
}

Failure LossRecord::explain(const std::string& what, bool collective) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(losses_.begin(), losses_.end(), [&](const Loss& candidate) { return candidate.what == what; });
  if (found == losses_.end()) return mismatch_ ? mismatch_->failure : Failure(C10D_ERR_NETWORK, without_location(what));
  // Ranks that fail close their connections, which makes others fail. Every rank is connected to every other one, so
  // the first connection to break is nearest to the cause.
  return describe(collective ? losses_.front() : cause_of(*found));
}

Failure LossRecord::explain_direct(int rank, const std::string& what) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return describe(losses_.empty() ? Loss{rank, what, {}} : losses_.front());
}

std::optional<std::string> LossRecord::when_all(int peers) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  // With several interfaces, a rank may be lost on each.
  std::set<int> ranks;
  for (const auto& loss : losses_) ranks.insert(loss.rank);
  if (ranks.size() < static_cast<size_t>(peers)) return std::nullopt;
  return losses_.back().what;
}

Failure LossRecord::describe(const Loss& loss) const {
  const std::string rank = "rank " + std::to_string(loss.rank);
  if (mismatch_) return mismatch_->failure;
  if (contains(loss.what, "Connection closed by peer") || contains(loss.what, kReset) ||
      contains(loss.what, "Broken pipe")) {
    return Failure(C10D_ERR_NETWORK, rank + " closed its connection: its process has ended or its group has failed",
                   loss.rank);
  }
  return Failure(C10D_ERR_NETWORK, "connection to " + rank + " broke: " + without_location(loss.what), loss.rank);
}

}  // namespace c10d::gloo_shim
