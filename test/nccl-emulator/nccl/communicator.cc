#include "communicator.h"

#include <vector>

#include "cuda_emulator.h"
#include "handle.h"
#include "injected_faults.h"
#include "report.h"

namespace nccl_emulator {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

void Communicator::begin_job() {
  polls_left_ = static_cast<int>(cuemu_random("nccl polls") % 3);
  state_ = ncclInProgress;
}

void Communicator::end_job(ncclResult_t result) {
  auto expected = ncclInProgress;
  state_.compare_exchange_strong(expected, result);
}

void Communicator::fail(ncclResult_t error) {
  for (auto state : {ncclSuccess, ncclInProgress}) {
    auto expected = state;
    if (state_.compare_exchange_strong(expected, error)) return;
  }
}

ncclResult_t Communicator::state(bool poll) {
  auto state = state_.load();
  if (state != ncclSuccess) return state;
  if (polls_left_.load() > 0) {
    if (poll) polls_left_.fetch_sub(1);
    return ncclInProgress;
  }
  return poll ? remote_state() : ncclSuccess;
}

// What this rank has learned of the others, after a while.
ncclResult_t Communicator::remote_state() {
  auto& faults = InjectedFaults::of_process();
  std::lock_guard lock(mutex_);
  if (!connected) return ncclSuccess;
  if (faults.async_error < ops_ && faults.concern(rank)) {
    fail(refuse(ncclSystemError, "NCCL emulator: injected asynchronous error"));
    return state_;
  }
  auto now = Clock::now();
  if (now - looked_ < std::chrono::milliseconds(1)) return ncclSuccess;
  looked_ = now;
  if (turns.idle()) return ncclSuccess;
  int culprit = -1;
  for (int peer = 0; peer < ranks && culprit < 0; peer++) {
    auto slot = segment->slot(peer).state.load();
    if (slot == SlotState::aborted && peer != rank && faults.tell_of_abort) culprit = peer;
    if (slot != SlotState::left && slot != SlotState::aborted && peers->dead(peer)) culprit = peer;
  }
  if (culprit < 0) return ncclSuccess;
  if (bad_news_ == Clock::time_point{}) bad_news_ = now + std::chrono::milliseconds(cuemu_random("nccl news") % 20);
  if (now >= bad_news_)
    fail(refuse(ncclRemoteError, "rank %d: process of rank %d exited or gave up the communicator", rank, culprit));
  return state_;
}

void Communicator::drop(std::map<uint64_t, Window>* all) {
  for (const auto& [number, window] : *all) cuemu_deregister(window.registration);
  all->clear();
}

bool Communicator::drop(std::map<uint64_t, Window>* all, uint64_t number) {
  auto found = all->find(number);
  if (found == all->end()) return false;
  cuemu_deregister(found->second.registration);
  all->erase(found);
  return true;
}

void Communicator::release() {
  std::lock_guard lock(mutex_);
  connected = false;
  segment.reset();
  peers.reset();
}

void Communicator::announce(SlotState state) {
  std::lock_guard lock(mutex_);
  if (!connected) return;
  segment->slot(rank).state = state;
  segment->wake_all();
}

void Communicator::number(Op* op) {
  op->index = ops_++;
  if (!op->message() && op->count > 0) op->sequence = collectives_++;
}

ncclRedOp_t Communicator::add_redop(const RedOp& redop, ncclDataType_t dtype) {
  // Of all communicators, so that one is unknown to the others.
  static std::atomic<int> next{ncclNumOps};
  std::lock_guard lock(mutex_);
  int number = next++;
  redops_[number] = {redop, dtype};
  return static_cast<ncclRedOp_t>(number);
}

bool Communicator::remove_redop(ncclRedOp_t op) {
  std::lock_guard lock(mutex_);
  return redops_.erase(op) > 0;
}

ncclResult_t Communicator::find_redop(ncclRedOp_t op, ncclDataType_t dtype, const char* call, RedOp* redop) {
  redop->code = op;
  switch (static_cast<int>(op)) {
    case ncclSum:
      redop->reduction = Reduction::sum;
      return ncclSuccess;
    case ncclProd:
      redop->reduction = Reduction::product;
      return ncclSuccess;
    case ncclMax:
      redop->reduction = Reduction::maximum;
      return ncclSuccess;
    case ncclMin:
      redop->reduction = Reduction::minimum;
      return ncclSuccess;
    case ncclAvg:
      redop->reduction = is_integer(dtype) ? Reduction::integer_average : Reduction::premultiplied_sum;
      redop->factor = reciprocal(dtype, ranks);
      return ncclSuccess;
  }
  if (op < 0) return refuse(ncclInvalidArgument, "%s : invalid reduction operation %d", call, op);
  std::lock_guard lock(mutex_);
  auto found = redops_.find(op);
  if (found == redops_.end())
    return misuse(ncclInvalidArgument, "%s : reduction operation %d unknown to this communicator", call, op);
  if (found->second.dtype != dtype)
    return refuse(ncclInvalidArgument,
                  "Data type supplied to user-created ncclRedOp_t does not match type given to reduction operation");
  *redop = found->second.redop;
  return ncclSuccess;
}

}  // namespace nccl_emulator

ncclComm_t ncclComm::make(std::shared_ptr<nccl_emulator::Communicator> body) {
  static auto* all = new std::vector<std::unique_ptr<ncclComm>>;  // Outlives the threads of streams.
  static auto* mutex = new std::mutex;
  std::lock_guard lock(*mutex);
  all->push_back(std::make_unique<ncclComm>());
  auto* handle = all->back().get();
  handle->magic = nccl_emulator::handle_magic;
  handle->body = std::move(body);
  return handle;
}
