#include "creation/turns.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "ops/failure.h"

namespace c10d::mpi_shim {

namespace {

constexpr std::chrono::milliseconds kLookInterval{5};

}  // namespace

uint64_t Turns::take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  turns_[next_];
  return next_++;
}

void Turns::enter(uint64_t turn, std::shared_ptr<const CommunicatorSpec> spec, Clock::time_point deadline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = turns_.find(turn);
  if (found == turns_.end())
    throw Failure(C10D_ERR_INVALID, "option turn must be one that was taken and has not ended");
  found->second.spec = std::move(spec);
  found->second.deadline = deadline;
}

void Turns::await(uint64_t turn, const std::function<void(const Obstacle&)>& look) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!turns_.empty() && turns_.begin()->first < turn) {
    if (turns_.begin()->second.undecided_until <= Clock::now()) {
      erase(turns_.begin()->first);
      continue;
    }
    const Obstacle obstacle = first_obstacle();
    lock.unlock();
    look(obstacle);
    lock.lock();
    if (turns_.empty() || turns_.begin()->first >= turn) break;
    ended_.wait_for(lock, kLookInterval);
  }
}

void Turns::end(uint64_t turn) {
  const std::lock_guard<std::mutex> lock(mutex_);
  erase(turn);
}

void Turns::record_missing(uint64_t turn, const std::vector<int>& missing) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = turns_.find(turn);
  if (found != turns_.end() && !found->second.decision) found->second.missing = missing;
}

std::optional<Turns::Decision> Turns::leave_undecided(uint64_t turn, Clock::duration limit) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = turns_.find(turn);
  if (found == turns_.end()) return Decision{0};
  if (found->second.decision) return found->second.decision;
  found->second.undecided = true;
  if (limit != Clock::duration::max()) found->second.undecided_until = Clock::now() + limit;
  return std::nullopt;
}

std::shared_ptr<const CommunicatorSpec> Turns::settle(uint64_t turn, Decision decision,
                                                      const std::vector<int>& missing) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = turns_.find(turn);
  if (found == turns_.end()) return nullptr;
  Turn& settled = found->second;
  if (!settled.spec) {
    // The host failed before it made the group.
    erase(turn);
    return nullptr;
  }
  settled.missing = missing;
  settled.decision = decision;
  if (!std::exchange(settled.undecided, false)) return nullptr;
  settled.undecided_until = Clock::time_point::max();
  return settled.spec;
}

void Turns::erase(uint64_t turn) {
  turns_.erase(turn);
  ended_.notify_all();
}

Turns::Obstacle Turns::first_obstacle() const {
  const Turn& first = turns_.begin()->second;
  if (!first.spec) return {};
  Obstacle obstacle{first.spec->group, {}, {}, first.deadline};
  const auto& ranks = first.spec->ranks;
  for (const int rank : first.missing) {
    if (rank < 0 || static_cast<size_t>(rank) >= ranks.size()) continue;
    obstacle.missing.push_back(rank);
    obstacle.missing_in_world.push_back(ranks[static_cast<size_t>(rank)]);
  }
  return obstacle;
}

}  // namespace c10d::mpi_shim
