#include "group.h"

#include <algorithm>
#include <thread>

#include "cuda_emulator.h"
#include "handle.h"
#include "launch.h"
#include "report.h"

namespace nccl_emulator {

Group& Group::of_thread() {
  thread_local Group group;
  return group;
}

Group::~Group() {
  if (depth_ > 0) misuse(ncclInvalidUsage, "a thread ends between ncclGroupStart and ncclGroupEnd");
}

bool Group::holds(const Communicator& communicator) const {
  return std::any_of(work_.launches.begin(), work_.launches.end(),
                     [&](const auto& launch) { return launch.first.get() == &communicator; });
}

void Group::note(const Communicator& communicator) {
  int blocking = communicator.blocking() ? 1 : 0;
  if (blocking_ == -1)
    blocking_ = blocking;
  else if (blocking_ != blocking)
    fail(misuse(ncclInvalidArgument, "Blocking and nonblocking communicators are not allowed in the same group."));
}

void Group::add(const std::shared_ptr<Communicator>& communicator, const Op& op) {
  note(*communicator);
  for (auto& [known, ops] : work_.launches)
    if (known == communicator) {
      ops.push_back(op);
      return;
    }
  work_.launches.push_back({communicator, {op}});
}

void Group::add(const std::shared_ptr<Communicator>& communicator, Job job) {
  note(*communicator);
  work_.jobs.emplace_back(communicator, std::move(job));
}

void Group::fail(ncclResult_t result) {
  if (error_ == ncclSuccess && result != ncclInProgress) error_ = result;
}

ncclResult_t Group::end() {
  if (depth_ == 0) return misuse(ncclInvalidUsage, "ncclGroupEnd: not in a group call.");
  if (--depth_ > 0) return ncclSuccess;
  auto work = std::exchange(work_, {});
  auto error = std::exchange(error_, ncclSuccess);
  auto blocking = std::exchange(blocking_, -1);
  if (error != ncclSuccess) return error;
  if (work.launches.empty() && work.jobs.empty()) return ncclSuccess;
  return begin(std::move(work), blocking != 0);
}

ncclResult_t Group::simulate_end() {
  if (depth_ == 0) return misuse(ncclInvalidUsage, "ncclGroupEnd: not in a group call.");
  if (--depth_ > 0) return ncclSuccess;
  work_ = {};
  blocking_ = -1;
  return std::exchange(error_, ncclSuccess);
}

// Ops of communicators that do not block are begun late now and then, the first ones always.
bool Group::deferred(const Work& work) {
  if (cuemu_null_mode()) return false;
  if (!work.jobs.empty()) return true;
  bool first =
      std::any_of(work.launches.begin(), work.launches.end(), [](const auto& launch) { return !launch.first->used; });
  return first || cuemu_random("nccl deferred") % 4 == 0;
}

ncclResult_t Group::begin(Work work, bool blocking) {
  bool later = !blocking && deferred(work);
  for (auto& launch : work.launches) launch.first->used = true;
  if (!later) {
    std::vector<Inside> inside;
    for (auto& one : work.communicators()) inside.emplace_back(one, "ncclGroupEnd");
    return work.run();
  }
  auto communicators = work.communicators();
  std::vector<uint64_t> turns;
  for (auto& one : communicators) {
    one->begin_job();
    turns.push_back(one->jobs.take());
  }
  std::thread([work = std::move(work), communicators, turns = std::move(turns)]() mutable {
    for (auto naps = 1 + cuemu_random("nccl job") % 4; naps > 0; naps--) cuemu_nap("nccl job");
    auto result = work.run();
    work = {};
    for (size_t i = 0; i < communicators.size(); i++) {
      communicators[i]->end_job(result);
      communicators[i]->jobs.end(turns[i]);
    }
  }).detach();
  return ncclInProgress;
}

std::vector<std::shared_ptr<Communicator>> Group::Work::communicators() const {
  std::vector<std::shared_ptr<Communicator>> all;
  auto add = [&](const std::shared_ptr<Communicator>& one) {
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
  };
  for (auto& job : jobs) add(job.first);
  for (auto& launch : launches) add(launch.first);
  return all;
}

// Jobs wait for the other ranks, which may be jobs of the same group.
ncclResult_t Group::Work::run() {
  std::vector<ncclResult_t> results(jobs.size(), ncclSuccess);
  std::vector<std::thread> threads;
  for (size_t i = 1; i < jobs.size(); i++) threads.emplace_back([this, &results, i] { results[i] = jobs[i].second(); });
  if (!jobs.empty()) results[0] = jobs[0].second();
  for (auto& thread : threads) thread.join();
  for (auto result : results)
    if (result != ncclSuccess) return result;
  for (auto& [communicator, ops] : launches)
    if (auto result = nccl_emulator::launch(communicator, ops); result != ncclSuccess) return result;
  return ncclSuccess;
}

}  // namespace nccl_emulator
