#include "creation/group_creation.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "engine/rank_values.h"
#include "process/mpi_host.h"
#include "process/runtime.h"

namespace c10d::mpi_shim {

namespace {

/// How long the host may take to settle the turn of a group in a Worker: a Worker that has ended never does.
constexpr Clock::duration kWorkerSettles = std::chrono::seconds(10);

/// MPI rarely takes longer to make a communicator.
constexpr std::chrono::milliseconds kSlowMaking{200};

/// How long after its deadline a group waits until an earlier one is given up, which shows which ranks are missing. The
/// engine waits a little longer.
constexpr std::chrono::milliseconds kGivenUpWait{150};

/// How long before the deadline of connecting a rank finds out by itself which ranks have arrived.
constexpr Clock::duration kAskBefore = std::chrono::seconds(2);

std::string rank_text(int rank) { return "rank " + std::to_string(rank); }

/// The number of the group, from the value of C10D_MPI_DECISION. Throws Failure if the members do not make the group.
uint64_t number_in(const std::vector<char>& decision) {
  uint64_t number = 0;
  int32_t rank = 0;
  if (decision.size() == sizeof rank) {
    std::memcpy(&rank, decision.data(), sizeof rank);
    throw Failure(C10D_ERR_NETWORK, rank_text(rank) + " has given up making the group");
  }
  if (decision.size() != sizeof number) throw Failure(C10D_ERR_INVALID, "rank 0 runs another version of bun-c10d", 0);
  std::memcpy(&number, decision.data(), sizeof number);
  return number;
}

}  // namespace

GroupCreation::GroupCreation(const Config& config, std::shared_ptr<const CommunicatorSpec> spec)
    : config_(config),
      spec_(std::move(spec)),
      mixed_(config.options.get("mixed") == "1"),
      of_worker_(config.options.get("thread") == "worker") {
  auto& turns = Runtime::get().turns();
  const auto turn = config.options.get("turn");
  host_settles_ = !turn.empty();
  turn_ = host_settles_ ? std::strtoull(turn.c_str(), nullptr, 10) : turns.take();
  turns.enter(turn_, spec_, config.connect_deadline);
}

GroupCreation::~GroupCreation() {
  if (!turn_over_) Runtime::get().turns().end(turn_);
}

void GroupCreation::run(Exchange& exchange, const std::function<void()>& throw_if_aborted,
                        const std::function<void(MPI_Comm)>& accept) {
  auto& runtime = Runtime::get();
  const auto failure = attempt([&] {
    await_turn(throw_if_aborted);
    accept(make(exchange, throw_if_aborted));
  });
  turn_over_ = true;
  if (failure) runtime.turns().record_missing(turn_, failure->ranks());
  if (pending_) {
    // The PendingCommunicator ends the turn.
  } else if (failure && undecided_ && host_settles_) {
    runtime.leave_turn_undecided(turn_, of_worker_ ? kWorkerSettles : Clock::duration::max(), spec_);
  } else {
    runtime.turns().end(turn_);
  }
  if (failure) throw Failure(*failure);
}

void GroupCreation::wake() {
  std::shared_ptr<PendingCommunicator> pending;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    pending = pending_;
  }
  if (pending) pending->wake();
}

void GroupCreation::await_turn(const std::function<void()>& throw_if_aborted) {
  const auto deadline = config_.connect_deadline;
  std::optional<Turns::Obstacle> late_for;
  Runtime::get().turns().await(turn_, [&](const Turns::Obstacle& obstacle) {
    throw_if_aborted();
    const auto now = Clock::now();
    if (now < deadline) return;
    const bool is_known_soon = obstacle.missing.empty() && obstacle.deadline <= deadline + kGivenUpWait;
    if (!is_known_soon || now >= deadline + kGivenUpWait) throw out_of_turn(obstacle);
    late_for = obstacle;
  });
  if (late_for) throw out_of_turn(*late_for);
}

Failure GroupCreation::out_of_turn(const Turns::Obstacle& obstacle) const {
  std::string text = "timed out waiting for ";
  if (obstacle.group.empty()) {
    text += "groups that are made before this one";
  } else {
    text += "group \"" + obstacle.group + "\", which is made before this one";
  }
  if (!obstacle.missing.empty()) {
    const bool one = obstacle.missing.size() == 1;
    text += ": its " + text_of_ranks(obstacle.missing) + (one ? " has" : " have") + " not joined it";
  } else {
    text += "; it is not yet known which of its ranks are missing";
  }
  std::vector<int32_t> missing;
  for (int rank = 0; rank < config_.world_size; rank++) {
    const auto& all = obstacle.missing_in_world;
    if (std::find(all.begin(), all.end(), spec_->ranks[static_cast<size_t>(rank)]) != all.end())
      missing.push_back(rank);
  }
  // Otherwise this rank waits for itself: no other rank of this group holds it up.
  return missing.empty() ? Failure(C10D_ERR_OP_TIMEOUT, text, config_.rank)
                         : Failure::of_ranks(C10D_ERR_OP_TIMEOUT, text, missing);
}

/// The members first wait for each other in the store: MPI itself would wait without limit.
MPI_Comm GroupCreation::make(Exchange& exchange, const std::function<void()>& throw_if_aborted) {
  auto& runtime = Runtime::get();
  const bool is_world = mixed_ && config_.world_size == runtime.size();
  const uint64_t number = mixed_ || config_.world_size == 1 ? 0 : agree_on_number(exchange);
  if (is_world) return MPI_COMM_WORLD;
  if (number != 0) {
    joined_ = true;
    return await_communicator(exchange, number, throw_if_aborted);
  }
  MPI_Comm communicator = MPI_COMM_NULL;
  runtime.call([&] { communicator = spec_->make(0); });
  return communicator;
}

/// Returns the number of the group, which no other one of the job has. From here on the ranks are bound by their
/// decision: see Turns.
uint64_t GroupCreation::agree_on_number(Exchange& exchange) {
  const std::string ready = "mpi/ready/";
  const int own_rank = config_.rank;
  undecided_ = true;
  std::vector<uint64_t> requests(static_cast<size_t>(config_.world_size));
  const auto request_all = [&] {
    for (int rank = 0; rank < config_.world_size; rank++) {
      if (rank != own_rank) requests[static_cast<size_t>(rank)] = exchange.request(ready + std::to_string(rank));
    }
  };
  const auto arrived = [](int, const std::vector<char>&) {};
  const auto deadline = config_.connect_deadline;
  std::vector<char> value;
  // Requested before anything else, it costs the host no extra turn of its event loop.
  uint64_t decision = 0;
  if (own_rank == 0) {
    request_all();
  } else {
    decision = exchange.request(C10D_MPI_DECISION);
  }
  exchange.set(ready + std::to_string(own_rank), "1", 1);
  if (own_rank == 0) {
    await_ranks(config_, exchange, requests, arrived);
    const uint64_t number = Runtime::get().group_number();
    const auto refused = attempt([&] { exchange.set(C10D_MPI_DECISION, &number, sizeof number); });
    undecided_ = refused.has_value();
    if (!refused) return number;
    if (refused->status() != C10D_ERR_NETWORK) throw Failure(*refused);
    // A rank gave up before, or the store did not answer.
    value = exchange.await(exchange.request(C10D_MPI_DECISION), deadline);
    undecided_ = false;
    return number_in(value);
  }
  if (!await_until(exchange, decision, deadline - std::min(kAskBefore, (deadline - Clock::now()) / 2), value)) {
    // Rank 0 waits for one of them, or has not arrived itself.
    request_all();
    if (!await_until(exchange, decision, deadline, value)) {
      Config expired = config_;
      expired.connect_deadline = Clock::now();
      await_ranks(expired, exchange, requests, arrived);
      throw Failure(C10D_ERR_OP_TIMEOUT, "rank 0 did not make the group although all ranks have arrived", 0);
    }
  }
  undecided_ = false;
  return number_in(value);
}

/// If it takes long, each rank also writes to the store that it is in MPI.
MPI_Comm GroupCreation::await_communicator(Exchange& exchange, uint64_t number,
                                           const std::function<void()>& throw_if_aborted) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    pending_ = PendingCommunicator::start(turn_, spec_, number, true);
  }
  const auto deadline = config_.connect_deadline;
  const auto is_aborted = [&] { return attempt(throw_if_aborted).has_value(); };
  const auto ended = [&](Clock::time_point until) {
    const bool has_ended = pending_->await(until, is_aborted);
    if (!has_ended) throw_if_aborted();
    return has_ended;
  };
  const auto failure = attempt([&] {
    if (ended(std::min(deadline, Clock::now() + kSlowMaking))) return;
    const std::string inside = "mpi/inside/";
    exchange.set(inside + std::to_string(config_.rank), "1", 1);
    if (ended(deadline - std::min(kAskBefore, (deadline - Clock::now()) / 2))) return;
    // Ranks that were faster write nothing, so this must not wait for them for long.
    std::vector<uint64_t> requests(static_cast<size_t>(config_.world_size));
    for (int rank = 0; rank < config_.world_size; rank++) {
      if (rank != config_.rank) requests[static_cast<size_t>(rank)] = exchange.request(inside + std::to_string(rank));
    }
    if (ended(deadline)) return;
    await_ranks(config_, exchange, requests, [](int, const std::vector<char>&) {});
    throw Failure(C10D_ERR_OP_TIMEOUT, "MPI did not make the group although all ranks have arrived");
  });
  if (failure && pending_->give_up()) throw Failure(*failure);
  MPI_Comm communicator = pending_->take();
  if (!failure) return communicator;
  attempt([&] {
    auto& runtime = Runtime::get();
    runtime.call([&] { runtime.messenger().leave(spec_->self, communicator); });
  });
  throw Failure(*failure);
}

}  // namespace c10d::mpi_shim
