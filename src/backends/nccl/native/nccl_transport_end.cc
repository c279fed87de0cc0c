// How ops of a NcclTransport end, and how it notices failures.
#include <utility>

#include "nccl_transport.h"

namespace c10d::nccl_shim {

void NcclTransport::progress(std::vector<Op*>& ended) {
  advanced_ = false;
  if (device_ == nullptr) return;
  if (aborted_.load(std::memory_order_acquire)) {
    // What has ended by now has succeeded.
    if (communicator_) collect(ended);
    end_communicator();
  } else {
    // It may have ended before the group failed on another rank.
    collect(ended);
    look_for_errors();
  }
  issue();
  collect(ended);
}

/// Errors of the communicator that no call has reported, and those of other ranks. Throws Failure.
void NcclTransport::look_for_errors() {
  const auto now = Clock::now();
  if (now < next_look_) return;
  next_look_ = now + kErrorInterval;
  check_peers(now);
  // While NCCL is in progress, ready() looks.
  const bool calling = issued_ < launches_.size() && launches_[issued_]->state == Launch::State::calling;
  if (calling || !communicator_) return;
  const auto failure = attempt([&] { communicator_.look(); });
  if (failure) throw reason_of(*failure);
}

void NcclTransport::end_communicator() {
  // That thread gives up soon, unless it is in a blocking call: then it ends with that.
  if (communicator_.borrowed()) return;
  communicator_.abort();
}

Failure NcclTransport::cause() {
  const std::lock_guard<std::mutex> lock(cause_mutex_);
  return *cause_;
}

void NcclTransport::collect(std::vector<Op*>& ended) {
  // They end in order, since they are in one stream.
  while (issued_ > 0 && has_ended(*launches_.front())) {
    end_ops(*launches_.front(), ended);
    spare_.push_back(std::move(launches_.front()));
    launches_.pop_front();
    issued_--;
    advanced_ = true;
  }
}

bool NcclTransport::has_ended(Launch& launch) {
  const auto& cuda = library_.cuda;
  if (launch.begin != nullptr && !launch.has_begun && cuda.event_query(launch.begin) != CuResult::not_ready) {
    launch.has_begun = true;
    const auto now = Clock::now();
    for (Op* op : launch.ops) {
      if ((op->request.flags & C10D_FLAG_TIMES) != 0) op->started = now;
    }
  }
  if (launch.end == nullptr || mutation_.is("no-end-query")) return true;
  const CuResult result = cuda.event_query(launch.end);
  if (result == CuResult::not_ready) return false;
  if (result != CuResult::success && !launch.failure) {
    // The device is lost, for all of the process.
    launch.failure = cuda_failure(result, "cuEventQuery");
    end_communicator();
  }
  return true;
}

void NcclTransport::end_ops(Launch& launch, std::vector<Op*>& ended) {
  std::optional<Failure> failure = launch.failure;
  // What NCCL has aborted has no result.
  if (!failure && !communicator_) {
    failure = aborted_.load(std::memory_order_acquire) ? cause() : Failure(C10D_ERR_BACKEND, "an op before it failed");
  }
  {
    const std::lock_guard<std::mutex> lock(device_->flights.mutex());
    for (const Op* op : launch.ops) device_->flights.remove(*op);
  }
  for (const CuEvent event : {launch.begin, launch.end}) {
    if (event != nullptr) device_->events.give_back(event);
  }
  for (Op* op : launch.ops) {
    op->failure = failure;
    if (op->request.opcode == C10D_OP_RECV && !failure) op->source = op->request.peer;
    if ((op->request.flags & C10D_FLAG_TIMES) != 0) op->finished = Clock::now();
    ended.push_back(op);
  }
}

}  // namespace c10d::nccl_shim
