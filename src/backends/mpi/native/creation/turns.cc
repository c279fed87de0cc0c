#include "creation/turns.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "process/runtime.h"

namespace c10d::mpi_shim {

namespace {

constexpr std::chrono::milliseconds kLookInterval{5};

}  // namespace

MPI_Comm Formation::make(uint64_t number) const {
  auto& runtime = Runtime::get();
  // Before any member can have the group, and leave it.
  if (number != 0) runtime.notices().join(self, number);
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Group members = MPI_GROUP_NULL;
  require_success(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  const int included = MPI_Group_incl(world, static_cast<int>(ranks.size()), ranks.data(), &members);
  MPI_Group_free(&world);
  require_success(included, "MPI_Group_incl");
  const auto tag = std::hash<std::string>{}(group) % static_cast<size_t>(runtime.max_tag());
  MPI_Comm communicator = MPI_COMM_NULL;
  // The process must be able to end while others do not come.
  runtime.unfinished++;
  runtime.making++;
  int made = MPI_SUCCESS;
  {
    const IdleYield::Wait wait(runtime.idle_yield());
    made = MPI_Comm_create_group(MPI_COMM_WORLD, members, static_cast<int>(tag), &communicator);
  }
  runtime.making--;
  runtime.unfinished--;
  MPI_Group_free(&members);
  require_success(made, "MPI_Comm_create_group");
  MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
  return communicator;
}

uint64_t Turns::take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  turns_[next_];
  return next_++;
}

void Turns::enter(uint64_t turn, std::shared_ptr<const Formation> formation, Clock::time_point deadline) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = turns_.find(turn);
  if (found == turns_.end())
    throw Failure(C10D_ERR_INVALID, "option turn must be one that was taken and has not ended");
  found->second.formation = std::move(formation);
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

void Turns::note_missing(uint64_t turn, const std::vector<int>& missing) {
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

std::shared_ptr<const Formation> Turns::settle(uint64_t turn, Decision decision, const std::vector<int>& missing) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = turns_.find(turn);
  if (found == turns_.end()) return nullptr;
  Turn& settled = found->second;
  if (!settled.formation) {
    // The host has failed before it came to making the group.
    erase(turn);
    return nullptr;
  }
  settled.missing = missing;
  settled.decision = decision;
  if (!std::exchange(settled.undecided, false)) return nullptr;
  settled.undecided_until = Clock::time_point::max();
  return settled.formation;
}

void Turns::erase(uint64_t turn) {
  turns_.erase(turn);
  ended_.notify_all();
}

Turns::Obstacle Turns::first_obstacle() const {
  const Turn& first = turns_.begin()->second;
  if (!first.formation) return {};
  Obstacle obstacle{first.formation->group, {}, {}, first.deadline};
  const auto& ranks = first.formation->ranks;
  for (const int rank : first.missing) {
    if (rank < 0 || static_cast<size_t>(rank) >= ranks.size()) continue;
    obstacle.missing.push_back(rank);
    obstacle.missing_in_world.push_back(ranks[static_cast<size_t>(rank)]);
  }
  return obstacle;
}

}  // namespace c10d::mpi_shim
