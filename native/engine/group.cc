// The host's side of a group, and how ops and groups end.
#include "engine/group.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "engine/group_guard.h"
#include "ops/op_shape.h"
#include "ops/sized_struct.h"

namespace c10d {

namespace {

using std::chrono::milliseconds;

/// How long connecting may continue past its deadline, so that the transport itself can report what it waited for.
constexpr milliseconds kConnectGrace{250};
/// How long collectives before a mismatch may take to end.
constexpr milliseconds kMismatchGrace{5'000};
constexpr uint32_t kMaxBatch = 1U << 20;

Clock::time_point later(Clock::time_point time, milliseconds by) {
  return time == Clock::time_point::max() ? time : time + by;
}

}  // namespace

Group::Group(std::shared_ptr<Transport> transport, const Config& config)
    : transport_(std::move(transport)),
      config_(config),
      level_(transport_->thread_level()),
      batches_(transport_->takes_batches()),
      overtakes_(transport_->messages_overtake()),
      copies_(config.device.type == C10D_DEVICE_CPU && config.options.get("thread") == "worker" &&
              !transport_->abort_lets_go()),
      idle_interval_(transport_->idle_interval()),
      watched_until_(later(config.connect_deadline, kConnectGrace)) {
  try {
    Guard guard(*this);
    start_thread("c10d-monitor", &Group::monitor);
    start_thread("c10d-worker", &Group::first_worker);
    idle_workers_++;
  } catch (const std::system_error& error) {
    {
      Guard guard(*this);
      stopping_ = true;
      watch_.notify_all();
    }
    for (auto& thread : threads_) thread.join();
    throw Failure::of_shortage(std::string("cannot start a thread: ") + error.what(), error.code().value());
  }
}

Group::~Group() {
  for (auto& thread : threads_) thread.join();
  // Before the rest, since its threads may call lost().
  transport_.reset();
  if (interrupt_fd_ >= 0) ::close(interrupt_fd_);
}

// ---- host side -------------------------------------------------------------------------------------------------

uint32_t Group::drain(void* events, uint32_t size, uint32_t max) {
  Guard guard(*this);
  uint32_t count = 0;
  while (count < max && !events_.empty()) {
    c10d_event event = events_.pop();
    if (event.kind == C10D_EVENT_COMPLETE || event.kind == C10D_EVENT_RELEASED) {
      Op* op = table_.find(event.id);
      if (event.kind == C10D_EVENT_COMPLETE) {
        // wait() may have taken the result since.
        if (op == nullptr || op->reported) continue;
        op->reported = true;
        if (copies_) {
          copy_back(guard, *op);
          event = event_of(*op, C10D_EVENT_COMPLETE);
        }
      }
      // A failed op stays until its failure was taken, a pinned one until native code releases its buffers.
      if (op != nullptr && op->phase == Op::Phase::done && (!op->failure || op->failure_taken)) {
        table_.remove(event.id);
      }
    }
    write_struct(event, static_cast<char*>(events) + size_t{count++} * size, size);
  }
  if (events_.empty()) events_.rearm();
  return count;
}

uint64_t Group::submit(const c10d_op* ops, uint32_t count, const void* input, void* output) {
  if (ops == nullptr || count == 0) throw Failure(C10D_ERR_INVALID, "no ops");
  if (count > kMaxBatch) throw Failure(C10D_ERR_INVALID, "too many ops at once");
  const uint32_t stride = claimed_size(ops, "c10d_op");
  const auto record = [&](uint32_t i) -> const c10d_op& {
    return *reinterpret_cast<const c10d_op*>(reinterpret_cast<const char*>(ops) + size_t{i} * stride);
  };
  Guard guard(*this);
  if (state_ == C10D_FAILED) throw Failure(C10D_ERR_GROUP_FAILED, cause_->text(), cause_->peer());
  if (state_ != C10D_OPEN) throw Failure(C10D_ERR_CLOSED, "the group is not open");
  const auto prepare = [&](uint32_t i) {
    auto op = table_.make();
    try {
      if (record(i).size != stride) throw Failure(C10D_ERR_INVALID, "the records of a batch differ in size");
      op->assign(record(i), i == 0 ? input : nullptr, i == 0 ? output : nullptr, config_.rank, config_.world_size,
                 config_.device);
      if (is_service(op->request.opcode) && (capabilities_.services >> op->request.opcode & 1) == 0) {
        throw Failure(C10D_ERR_UNSUPPORTED, "the backend has no such service");
      }
      check_shape(*op, config_.rank, config_.world_size);
      transport_->check(*op);
      if (copies_) op->work_on_copies();
    } catch (const Failure& failure) {
      for (uint32_t all = 0; all < count; all++) collectives_ += is_collective(record(all).opcode) ? 1 : 0;
      // Such as a device that is lost, which the check has noticed.
      if (!failure.harmless()) lose(guard, failure);
      throw;
    }
    return op;
  };
  const uint64_t first = table_.next_id();
  if (count == 1) {
    auto op = prepare(0);
    const bool direct = overtakes_ && op->point_to_point();
    enqueue(std::move(op), direct);
  } else {
    std::vector<std::unique_ptr<Op>> batch;
    batch.reserve(count);
    for (uint32_t i = 0; i < count; i++) batch.push_back(prepare(i));
    const bool messages = std::all_of(batch.begin(), batch.end(), [](const auto& op) { return op->point_to_point(); });
    for (uint32_t i = 0; i < count; i++) {
      if (batches_) batch[i]->followers = count - 1 - i;
      const bool direct = overtakes_ && (batches_ ? messages : batch[i]->point_to_point());
      enqueue(std::move(batch[i]), direct);
    }
  }
  if (!direct_.empty()) start_direct(guard);
  return first;
}

void Group::enqueue(std::unique_ptr<Op> made, bool direct) {
  Op& op = table_.insert(std::move(made));
  op.direct = direct;
  if (is_collective(op.request.opcode)) op.number = ++collectives_;
  transport_->number(op);
  (direct ? direct_ : queue_).push_back(&op);
  stats_.submitted++;
  if (op.deadline < watched_until_) {
    watched_until_ = op.deadline;
    watch_.notify_one();
  }
}

void Group::skip_turn() {
  Guard guard(*this);
  collectives_++;
}

void Group::kick() {
  Guard guard(*this);
  kicked_through_ = table_.next_id() - 1;
  if (level_ == ThreadLevel::multiple && transport_->starts_when_kicked()) {
    while (Op* op = startable(kicked_through_)) begin(guard, *op, false, false);
  }
  wake_worker();
}

int32_t Group::wait(uint64_t id, double timeout_ms, c10d_event& result) {
  const auto deadline = deadline_after(timeout_ms);
  Guard guard(*this);
  Op* op = table_.find(id);
  if (op == nullptr || op->reported) return C10D_ERR_UNKNOWN_OP;
  op->awaited = true;
  while (!op->ended()) {
    if (drive_for(guard, *op, deadline) || op->ended()) continue;
    kicked_through_ = std::max(kicked_through_, id);
    wake_worker();
    if (deadline != Clock::time_point::max() && Clock::now() >= deadline) {
      op->awaited = false;
      return C10D_ERR_WAIT_TIMEOUT;
    }
    driver_wanted_ = op->may_be_driven() && level_ != ThreadLevel::funneled;
    if (driver_wanted_ && driver_busy_) interrupt_driver();
    guard.wait_until(done_, deadline);
    driver_wanted_ = false;
  }
  wake_worker();
  op->reported = true;
  copy_back(guard, *op);
  result = event_of(*op, C10D_EVENT_COMPLETE);
  if (result.status == C10D_OK) table_.remove(id);
  return result.status;
}

int32_t Group::synchronize(uint64_t id, uint64_t stream, double timeout_ms) {
  const auto deadline = deadline_after(timeout_ms);
  Guard guard(*this);
  if (id == 0 || id >= table_.next_id()) throw Failure(C10D_ERR_UNKNOWN_OP, "no such op");
  if (!transport_->has_streams()) throw Failure(C10D_ERR_UNSUPPORTED, "the backend has no streams");
  Op* op = table_.find(id);
  // An op that the host knows has succeeded is no longer in the table: there is nothing to wait for.
  while (op != nullptr && !op->ended() && (op->phase != Op::Phase::pending || !transport_->has_issued(*op))) {
    kicked_through_ = std::max(kicked_through_, id);
    Op* const next = level_ != ThreadLevel::funneled && may_call() ? startable(id) : nullptr;
    if (next != nullptr) {
      begin(guard, *next, false, false);
      continue;
    }
    wake_worker();
    if (deadline != Clock::time_point::max() && Clock::now() >= deadline) return C10D_ERR_WAIT_TIMEOUT;
    start_awaited_ = true;
    guard.wait_until(done_, deadline);
    start_awaited_ = false;
  }
  wake_worker();
  if (op == nullptr) return C10D_OK;
  if (op->pinned) throw Failure(*cause_);
  if (op->failure) throw Failure(*op->failure);
  if (op->phase == Op::Phase::pending) transport_->synchronize(*op, stream);
  return C10D_OK;
}

bool Group::has_started(uint64_t id) {
  Guard guard(*this);
  if (id == 0 || id >= table_.next_id()) throw Failure(C10D_ERR_UNKNOWN_OP, "no such op");
  const Op* op = table_.find(id);
  return op == nullptr || (op->phase != Op::Phase::queued && op->phase != Op::Phase::ready);
}

std::optional<Failure> Group::take_failure(uint64_t id) {
  Guard guard(*this);
  if (id == 0) return cause_;
  Op* op = table_.find(id);
  if (op == nullptr || !op->reported || std::exchange(op->failure_taken, true)) return std::nullopt;
  if (op->pinned) return cause_;
  auto failure = std::move(op->failure);
  table_.remove(id);
  return failure;
}

c10d_capabilities Group::capabilities() {
  Guard guard(*this);
  c10d_capabilities all{};
  all.ops = capabilities_.ops;
  all.services = capabilities_.services;
  all.dtypes = capabilities_.dtypes;
  all.reduce_ops = capabilities_.reduce_ops;
  all.concurrency = max_concurrency_;
  if (batches_) all.flags |= C10D_CAN_TAKE_BATCHES;
  if (transport_->has_streams()) all.flags |= C10D_CAN_SYNCHRONIZE;
  if (transport_->can_split()) all.flags |= C10D_CAN_SPLIT;
  if (overtakes_) all.flags |= C10D_CAN_OVERTAKE_COLLECTIVES;
  return all;
}

uint64_t Group::window_address(uint64_t address, int32_t rank) {
  Guard guard(*this);
  const bool exists = state_ == C10D_OPEN && rank >= 0 && rank < config_.world_size;
  return exists ? transport_->window_address(address, rank) : 0;
}

std::shared_ptr<Transport> Group::split(const Config& config, int32_t color) {
  Guard guard(*this);
  if (state_ == C10D_FAILED) throw Failure(C10D_ERR_GROUP_FAILED, cause_->text(), cause_->peer());
  if (state_ != C10D_OPEN) throw Failure(C10D_ERR_CLOSED, "the group is not open");
  if (!transport_->can_split()) throw Failure(C10D_ERR_UNSUPPORTED, "the backend has no split of its own");
  if (!idle()) {
    throw Failure(C10D_ERR_INVALID, "a group can be split only while it has no op in flight");
  }
  return transport_->make_split(config, color);
}

c10d_state Group::state() {
  Guard guard(*this);
  return state_;
}

c10d_stats Group::stats() {
  Guard guard(*this);
  stats_.wakes = events_.wakes();
  return stats_;
}

void Group::abort(int32_t status, const std::string& reason) {
  Guard guard(*this);
  aborters_++;
  fail(guard, Failure(status < C10D_OK ? status : C10D_ERR_ABORTED, reason));
  // Once close() may continue, the group must not be accessed after the mutex is released.
  guard.flush();
  aborters_--;
  thread_end_.notify_all();
}

bool Group::close(double timeout_ms, int32_t& still_running) {
  auto deadline = deadline_after(timeout_ms);
  Guard guard(*this);
  if (state_ == C10D_OPEN && idle()) {
    state_ = C10D_CLOSED;
    in_order_ = true;
  } else {
    fail(guard, Failure(C10D_ERR_CLOSED, "the group was closed"));
    // Ops that do not end by then hold no buffers of the host.
    if (copies_) deadline = std::min(deadline, Clock::now() + transport_->abort_grace());
  }
  stopping_ = true;
  work_.notify_all();
  watch_.notify_all();
  while ((live_threads_ > 0 || aborters_ > 0) && Clock::now() < deadline) guard.wait_until(thread_end_, deadline);
  state_ = C10D_CLOSED;
  still_running = static_cast<int32_t>(in_flight_);
  if (live_threads_ == 0 && aborters_ == 0) return true;
  report_stuck();
  return false;
}

// ---- endings ---------------------------------------------------------------------------------------------------

/// The library has ended an op.
void Group::finish(Guard& guard, Op& op, const Failure* failure) {
  in_flight_--;
  if (!op.direct) active_--;
  if (failure != nullptr) {
    if (copies_ && !failure->harmless()) op.leave_copies();
    op.phase = Op::Phase::held;
    if (hold(*failure, &op)) {
      held_.push_back(&op);
      return;
    }
  }
  // The first failure of the group is the cause of the others, whose own texts only repeat the abort. But a mismatch is
  // never a consequence: because of it, another rank breaks its connections, which this rank may notice first.
  if (failure != nullptr && mismatch_ && failure->status() == C10D_ERR_NETWORK) failure = &*mismatch_;
  const bool is_cause = failure != nullptr && failure->status() == C10D_ERR_DESYNC;
  if (is_cause && cause_ && cause_->status() == C10D_ERR_NETWORK) cause_ = *failure;
  if (failure != nullptr) op.failure = cause_ && !is_cause && !failure->harmless() ? *cause_ : *failure;
  if (failure != nullptr && !failure->harmless() && may_hide_mismatch(*op.failure)) {
    held_.push_back(&op);
  } else {
    conclude(op);
  }
  if (failure != nullptr && !failure->harmless()) {
    fail(guard, Failure(*failure));
  } else if (mismatch_ && !awaits_earlier(*mismatch_)) {
    fail_by_mismatch(guard);
  }
  if (state_ != C10D_OPEN && in_flight_ == 0) conclude_held();
}

/// Whether an op in flight may still find a mismatch that is the reason for a lost connection.
bool Group::may_hide_mismatch(const Failure& cause) const {
  return cause.status() == C10D_ERR_NETWORK && in_flight_ > 0 && state_ != C10D_CLOSED;
}

/// Whether a failure (of `op`, if given) is a mismatch that has to wait for the collectives before it, or only a
/// consequence of one.
bool Group::hold(const Failure& failure, const Op* op) {
  if (state_ != C10D_OPEN) return false;
  // The other ranks break their connections because of the mismatch.
  if (mismatch_ && failure.status() == C10D_ERR_NETWORK) {
    return op != nullptr && !mismatch_->spares(op->number);
  }
  if (failure.status() != C10D_ERR_DESYNC) return false;
  if (!mismatch_) {
    if (!awaits_earlier(failure)) return false;
    mismatch_until_ = Clock::now() + kMismatchGrace;
    watched_until_ = std::min(watched_until_, mismatch_until_);
    watch_.notify_one();
  } else if (failure.collective() == 0 || failure.collective() >= mismatch_->collective()) {
    return true;
  }
  mismatch_ = failure;
  return awaits_earlier(failure);
}

/// Whether a mismatch has to wait for collectives before it.
bool Group::awaits_earlier(const Failure& mismatch) {
  bool found = false;
  table_.each([&](const Op& op) {
    const bool over = op.phase == Op::Phase::held || op.phase == Op::Phase::done;
    found = found || (!over && mismatch.spares(op.number));
  });
  return found;
}

/// The same for an op that progress() has ended.
void Group::finish_polled(Guard& guard, Op& op) {
  if (!op.failure) return finish(guard, op, nullptr);
  const Failure failure = *op.failure;
  finish(guard, op, &failure);
}

/// Notifies the host of the end of an op.
void Group::conclude(Op& op) {
  op.phase = Op::Phase::done;
  const bool timed = (op.request.flags & C10D_FLAG_TIMES) != 0;
  if (timed && op.finished == Clock::time_point()) op.finished = Clock::now();
  if (start_awaited_) done_.notify_all();
  if (op.pinned) {
    op.pinned = false;
    op.failure = cause_;
    if (copies_) return;
    stats_.pinned--;
    events_.push(event_of(op, C10D_EVENT_RELEASED));
    return;
  }
  (op.failure ? stats_.failed : stats_.completed)++;
  if (op.awaited) {
    done_.notify_all();
  } else {
    events_.push(event_of(op, C10D_EVENT_COMPLETE));
  }
}

/// On the host's thread, without the mutex: no other thread uses an op that has ended. Not after the group has failed,
/// since the memory of a tensor may be gone.
void Group::copy_back(Guard& guard, Op& op) {
  if (!copies_ || op.phase != Op::Phase::done || op.failure) return;
  if (state_ == C10D_FAILED) {
    op.failure = cause_;
    return;
  }
  guard.unlock();
  op.copy_back();
  guard.lock();
}

/// Fails what is held with the cause that is known by now.
void Group::conclude_held() {
  if (!cause_) return;
  if (std::exchange(loss_unannounced_, false)) announce_loss(*cause_);
  for (Op* op : std::exchange(held_, {})) {
    op->failure = cause_;
    conclude(*op);
  }
}

void Group::fail_by_mismatch(Guard& guard) {
  const Failure mismatch = *mismatch_;
  loss_unannounced_ = state_ == C10D_OPEN && held_.empty();
  fail(guard, mismatch);
}

/// Records the first failure, rejects what is queued or held, and aborts the transport, for which it releases the
/// mutex.
void Group::fail(Guard& guard, const Failure& cause) {
  if (state_ == C10D_FAILED || state_ == C10D_CLOSED) return;
  state_ = C10D_FAILED;
  cause_ = cause;
  for (auto* lane : {&direct_, &queue_}) {
    for (Op* op : std::exchange(*lane, {})) {
      op->phase = Op::Phase::held;
      held_.push_back(op);
    }
  }
  if (!may_hide_mismatch(cause)) conclude_held();
  watched_until_ = Clock::now() + transport_->abort_grace();
  watch_.notify_all();
  answered_.notify_all();
  interrupt_driver();
  guard.unlock();
  transport_->abort(cause);
  guard.lock();
  if (idle_interval_.count() == 0) return;
  next_idle_call_ = Clock::now();
  work_.notify_all();
}

c10d_event Group::event_of(const Op& op, c10d_event_kind kind) const {
  c10d_event event{};
  event.kind = kind;
  event.id = op.id;
  event.status = op.pinned ? cause_->status() : op.status();
  event.peer = op.pinned ? cause_->peer() : op.peer();
  event.flags = op.pinned && !copies_ ? C10D_EVENT_PINNED : 0;
  // The library has not finished a pinned op, and may be setting its times.
  event.started_ns = nanoseconds_of(op.pinned ? op.issued : op.started);
  event.finished_ns = op.pinned ? 0 : nanoseconds_of(op.finished);
  return event;
}

void Group::announce_ready() {
  if (std::exchange(ready_announced_, true)) return;
  c10d_event event{};
  event.kind = C10D_EVENT_READY;
  event.status = cause_ ? cause_->status() : C10D_OK;
  event.peer = cause_ ? cause_->peer() : -1;
  events_.push(event);
}

/// Fails the group because of something that perhaps no op reports. Returns whether it has failed.
bool Group::lose(Guard& guard, const Failure& cause) {
  if (hold(cause)) return false;
  loss_unannounced_ = state_ == C10D_OPEN;
  fail(guard, mismatch_ && cause.status() == C10D_ERR_NETWORK ? *mismatch_ : cause);
  return true;
}

void Group::announce_loss(const Failure& cause) {
  c10d_event event{};
  event.kind = C10D_EVENT_LOST;
  event.status = cause.status();
  event.peer = cause.peer();
  events_.push(event);
}

// ---- monitor ---------------------------------------------------------------------------------------------------

void Group::monitor() {
  Guard guard(*this);
  while (!stopping_) {
    if (loss_ && state_ == C10D_OPEN && lose(guard, *loss_)) continue;
    if (Clock::now() < watched_until_) {
      guard.wait_until(watch_, watched_until_);
    } else if (state_ == C10D_CONNECTING) {
      fail(guard, Failure(C10D_ERR_OP_TIMEOUT, "connecting timed out"));
    } else if (state_ == C10D_OPEN) {
      expire(guard);
    } else {
      watched_until_ = Clock::time_point::max();
      report_stuck();
    }
  }
}

void Group::lost(const Failure& cause) {
  Guard guard(*this);
  if (loss_) return;
  loss_ = cause;
  watch_.notify_one();
}

/// Fails the group if an op has timed out; else sets when to check again.
void Group::expire(Guard& guard) {
  const auto now = Clock::now();
  if (now >= mismatch_until_) return fail_by_mismatch(guard);
  watched_until_ = mismatch_until_;
  const Op* late = nullptr;
  table_.each([&](const Op& op) {
    if (op.phase == Op::Phase::done) return;
    if (op.deadline <= now && late == nullptr) late = &op;
    watched_until_ = std::min(watched_until_, op.deadline);
  });
  if (late == nullptr) return;
  // After a mismatch, the ranks wait for each other: no rank is late.
  if (mismatch_) return fail_by_mismatch(guard);
  const uint64_t id = late->id;
  std::string text = "timed out after " + std::to_string(static_cast<int64_t>(late->request.timeout_ms)) + " ms";
  const bool names_peer = late->point_to_point();
  int peer = late->request.peer;
  guard.unlock();
  if (!names_peer) peer = transport_->awaited_peer();
  guard.lock();
  late = table_.find(id);
  if (late == nullptr || late->phase == Op::Phase::done) {
    watched_until_ = Clock::now();
    return;
  }
  if (peer >= 0) text += " of waiting for rank " + std::to_string(peer);
  fail(guard, Failure(C10D_ERR_OP_TIMEOUT, text, peer));
}

/// Notifies the host of ops that do not return from the library although they were aborted. Their buffers stay
/// borrowed.
void Group::report_stuck() {
  if (!cause_) return;
  announce_ready();
  conclude_held();
  table_.each([this](Op& op) {
    if (op.ended()) return;
    op.pinned = true;
    if (!copies_) stats_.pinned++;
    stats_.failed++;
    if (!op.awaited) events_.push(event_of(op, C10D_EVENT_COMPLETE));
  });
  done_.notify_all();
  interrupt_driver();
}

}  // namespace c10d
