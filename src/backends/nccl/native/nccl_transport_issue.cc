// How a NcclTransport puts ops into its stream.
#include <utility>

#include "nccl_transport.h"

namespace c10d::nccl_shim {

Transport::Start NcclTransport::start(Op& op) {
  one_.assign(1, &op);
  enqueue(one_);
  issue();
  return Start::pending;
}

void NcclTransport::start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) {
  (void)started;
  bool services = false;
  for (const Op* op : ops) services = services || is_service(op->request.opcode);
  if (!services) {
    enqueue(ops);
  } else {
    for (Op* op : ops) {
      one_.assign(1, op);
      enqueue(one_);
    }
  }
  issue();
}

void NcclTransport::enqueue(const std::vector<Op*>& ops) {
  if (aborted_.load(std::memory_order_acquire)) throw cause();
  std::unique_ptr<Launch> launch;
  if (spare_.empty()) {
    launch = std::make_unique<Launch>();
  } else {
    launch = std::move(spare_.back());
    spare_.pop_back();
    launch->reset();
  }
  launch->ops = ops;
  launch->queued_at = Clock::now();
  {
    const std::lock_guard<std::mutex> lock(device_->flights.mutex());
    for (const Op* op : ops) {
      if (op->ticket == 0) throw std::bad_alloc();
      launch->flights.push_back(&device_->flights.of(*op));
    }
  }
  launches_.push_back(std::move(launch));
}

void NcclTransport::issue() {
  while (issued_ < launches_.size() && advance(*launches_[issued_])) {
    issued_++;
    advanced_ = true;
  }
}

bool NcclTransport::advance(Launch& launch) {
  const auto failure = attempt([&] {
    if (aborted_.load(std::memory_order_acquire)) throw cause();
    if (launch.state == Launch::State::queued && may_begin(launch)) begin(launch);
    if (launch.state != Launch::State::calling) return;
    if (mutation_.is("no-ready-wait") || communicator_.ready()) return finish(launch);
    const bool late = progress_limit_.count() > 0 && Clock::now() - launch.called_at >= progress_limit_;
    if (late)
      throw Failure(C10D_ERR_OP_TIMEOUT,
                    "NCCL has been in progress for " + std::to_string(progress_limit_.count()) + " ms");
  });
  if (failure) break_off(launch, reason_of(*failure));
  return launch.state == Launch::State::issued;
}

bool NcclTransport::may_begin(const Launch& launch) {
  if (!communicator_) throw Failure(C10D_ERR_BACKEND, "the communicator has ended");
  if (!order_.may_launch(launch.flights[0]->turn, launch.queued_at)) return false;
  if (issued_ > 0 && Services::needs_quiet(launch.ops[0]->request.opcode)) return false;
  return communicator_.may_be_called();
}

void NcclTransport::begin(Launch& launch) {
  const auto& cuda = library_.cuda;
  bool timed = false;
  size_t bytes = 0;
  for (const Op* op : launch.ops) {
    timed = timed || (op->request.flags & C10D_FLAG_TIMES) != 0;
    bytes += aligned_scratch_bytes(*op, config_.world_size);
  }
  // First, since there may be too little memory.
  if (bytes > 0) launch.scratch = device_->scratch.reserve(bytes);
  wait_for_inputs(launch);
  launch.touches_stream = true;
  if (timed) {
    launch.begin = device_->events.take();
    require(cuda.event_record(launch.begin, device_->stream), "cuEventRecord");
  }
  launch.called_at = Clock::now();
  if (is_service(launch.ops[0]->request.opcode)) {
    services_.serve(*launch.ops[0]);
  } else {
    CuAddress scratch = launch.scratch;
    for (const Op* op : launch.ops) {
      copy_in(*op, place(), scratch);
      scratch += aligned_scratch_bytes(*op, config_.world_size);
    }
    if (mutation_.is("event-before-op")) record_end(launch);
    call(launch);
  }
  launch.state = Launch::State::calling;
}

void NcclTransport::wait_for_inputs(const Launch& launch) {
  const auto& cuda = library_.cuda;
  for (size_t i = 0; i < launch.ops.size(); i++) {
    const Flight& flight = *launch.flights[i];
    require(flight.input_result, "cuEventRecord in the stream of the op");
    if (!flight.has_input) continue;
    if (mutation_.is("late-input-wait")) {
      cuda.event_record(flight.input, reinterpret_cast<CuStream>(launch.ops[i]->request.stream));
    }
    require(cuda.stream_wait_event(device_->stream, flight.input, 0), "cuStreamWaitEvent");
  }
}

void NcclTransport::call(Launch& launch) {
  const auto& nccl = library_.nccl;
  const bool grouped = launch.ops.size() > 1 || makes_several_calls(*launch.ops[0]);
  Place target = place();
  if (mutation_.is("other-stream")) target.stream = nullptr;
  if (grouped) {
    const auto result = nccl.group_start();
    if (result != NcclResult::success) throw nccl_failure(result, target.comm, "ncclGroupStart");
  }
  const auto failure = attempt([&] {
    CuAddress scratch = launch.scratch;
    for (const Op* op : launch.ops) {
      call_nccl(*op, target, scratch, launch.made);
      scratch += aligned_scratch_bytes(*op, config_.world_size);
    }
  });
  // Also after a failure, or the next call would be in this group too.
  const auto result = grouped && !mutation_.is("no-group-end") ? nccl.group_end() : NcclResult::success;
  if (failure) throw Failure(*failure);
  if (result != NcclResult::success && result != NcclResult::in_progress) {
    throw nccl_failure(result, target.comm, "ncclGroupEnd");
  }
}

void NcclTransport::finish(Launch& launch) {
  destroy(launch.made, communicator_.get());
  CuAddress scratch = launch.scratch;
  Place target = place();
  if (mutation_.is("no-scratch-wait")) target.stream = nullptr;
  for (const Op* op : launch.ops) {
    copy_out(*op, target, scratch);
    scratch += aligned_scratch_bytes(*op, config_.world_size);
  }
  if (launch.end == nullptr) record_end(launch);
  give_back_turns(launch);
  launch.state = Launch::State::issued;
}

void NcclTransport::record_end(Launch& launch) {
  launch.end = device_->events.take();
  require(library_.cuda.event_record(launch.end, device_->stream), "cuEventRecord");
  const std::lock_guard<std::mutex> lock(device_->flights.mutex());
  for (Flight* flight : launch.flights) flight->end = launch.end;
}

/// What is in the stream of a launch that has failed still uses the buffers. The communicator is of no use any more,
/// unless the launch was refused before it was called.
void NcclTransport::break_off(Launch& launch, const Failure& failure) {
  launch.failure = failure;
  launch.made.clear();
  if (!failure.harmless()) end_communicator();
  const bool ends = launch.touches_stream && !mutation_.is("no-end-of-failed");
  if (ends && launch.end == nullptr) attempt([&] { record_end(launch); });
  give_back_turns(launch);
  launch.state = Launch::State::issued;
}

void NcclTransport::give_back_turns(const Launch& launch) {
  for (const Flight* flight : launch.flights) order_.give_back(flight->turn);
}

Place NcclTransport::place() const {
  return {config_.rank, config_.world_size, communicator_.get(), device_->stream, mutation_};
}

}  // namespace c10d::nccl_shim
