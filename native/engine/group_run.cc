// When and on which thread the library is called.
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "engine/group_guard.h"
#include "engine/thread.h"

namespace c10d {

namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kYieldsBeforePause = 100;
constexpr microseconds kShortestPause{20};
constexpr microseconds kLongestPause{400};
constexpr int kWaitedPerPause = 8;
/// After a failure there is no hurry.
constexpr microseconds kFailedPause{10'000};
constexpr milliseconds kPollInterval{50};

}  // namespace

// ---- threads ---------------------------------------------------------------------------------------------------

void Group::start_thread(const char* name, void (Group::*body)()) {
  threads_.reserve(threads_.size() + 1);
  threads_.push_back(spawn_thread(name, [this, body] {
    (this->*body)();
    Guard guard(*this);
    live_threads_--;
    thread_end_.notify_all();
  }));
  live_threads_++;
}

/// The first worker. A library that allows one thread only is called by this one, from connect() to close().
void Group::first_worker() {
  connect();
  worker();
  if (in_order_) transport_->close();
}

void Group::connect() {
  bool wanted = true;
  {
    Guard guard(*this);
    wanted = state_ == C10D_CONNECTING;
  }
  std::optional<Failure> failure;
  Capabilities capabilities;
  unsigned max_concurrency = 1;
  int interrupt_fd = -1;
  if (wanted) {
    failure = attempt([&] {
      transport_->connect(*this);
      max_concurrency = std::max(1U, transport_->max_concurrency());
      capabilities = transport_->capabilities();
      if (transport_->event_fd() < 0) return;
      interrupt_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
      if (interrupt_fd < 0) throw Failure::of_system("eventfd", errno);
    });
  }
  Guard guard(*this);
  max_concurrency_ = max_concurrency;
  capabilities_ = capabilities;
  interrupt_fd_ = interrupt_fd;
  if (failure) fail(guard, *failure);
  if (state_ == C10D_CONNECTING) state_ = C10D_OPEN;
  if (loss_) watch_.notify_one();
  announce_ready();
}

void Group::worker() {
  Guard guard(*this);
  idle_workers_--;
  for (;;) {
    worker_waking_ = false;
    if (may_call()) {
      if (Op* op = startable(kicked_through_)) {
        begin(guard, *op, true, false);
        continue;
      }
      if (!blocking_.empty()) {
        run_blocking(guard, *blocking_.front());
        continue;
      }
      if (!pending_.empty() && !driver_busy_ && !driver_wanted_) {
        drive_as_worker(guard);
        continue;
      }
      if (idle_call_due()) {
        call_while_idle(guard);
        continue;
      }
    }
    if (stopping_) return;
    idle_workers_++;
    wait_for_work(guard);
    idle_workers_--;
  }
}

void Group::wait_for_work(Guard& guard) {
  if (idle_interval_.count() == 0) return guard.wait(work_);
  guard.wait_until(work_, next_idle_call_);
}

/// Only one thread may be in progress(): with such a library, that is this one.
bool Group::idle_call_due() const {
  return idle_interval_.count() > 0 && level_ == ThreadLevel::funneled && pending_.empty() &&
         Clock::now() >= next_idle_call_;
}

void Group::call_while_idle(Guard& guard) {
  next_idle_call_ = Clock::now() + idle_interval_;
  driver_busy_ = true;
  progress(guard, false);
  release_driver();
}

bool Group::worker_has_work() const {
  if (!may_call()) return false;
  if (!blocking_.empty() || (!pending_.empty() && !driver_busy_ && !driver_wanted_)) return true;
  return startable(kicked_through_) != nullptr;
}

/// Makes sure that a native thread does the work that there is now. Called by a thread that leaves some of it undone:
/// the host's thread when it returns, a thread that is about to block, a driver that has started a blocking op.
void Group::wake_worker() {
  if (worker_drives_ && startable(kicked_through_) != nullptr) {
    interrupt_driver();
    if (blocking_.empty()) return;
  }
  // A worker that was woken wakes the next one itself. If it were woken again until it runs, a thread that is about to
  // block would spin instead: Guard::wait_until() returns early when there is somebody to wake.
  if (worker_waking_ || !worker_has_work()) return;
  if (idle_workers_ > 0) {
    worker_waking_ = true;
    worker_wakes_++;
  } else if (!exclusive()) {
    try {
      start_thread("c10d-worker", &Group::worker);
      worker_waking_ = true;
      idle_workers_++;
    } catch (const std::system_error&) {
      // No thread can be created: a worker that is busy now does it later.
    }
  }
}

// ---- running ops -----------------------------------------------------------------------------------------------

/// The op to start next, if one may start now; of collectives, only up to this id.
Op* Group::startable(uint64_t through) const {
  if (state_ != C10D_OPEN || starting_) return nullptr;
  if (!direct_.empty()) return direct_.front();
  if (queue_.empty()) return nullptr;
  Op* op = queue_.front();
  if (op->id > through) return nullptr;
  if (mismatch_ && op->number >= mismatch_->collective()) return nullptr;
  bool fences = transport_->fences(*op);
  for (uint32_t i = 1; i <= op->followers; i++) fences = fences || transport_->fences(*queue_[i]);
  return active_ < (fences ? 1 : max_concurrency_) ? op : nullptr;
}

/// Whether `op` cannot end before `first` has.
bool Group::holds_up(const Op& first, const Op& op) const {
  if (&first == &op) return true;
  if (first.direct || op.direct) return false;
  return first.id < op.id && (max_concurrency_ == 1 || transport_->fences(op));
}

/// Starts what is in the point-to-point lane, on the host's thread if it may call the library.
void Group::start_direct(Guard& guard) {
  while (!direct_.empty() && level_ != ThreadLevel::funneled && may_call() && !starting_ && state_ == C10D_OPEN) {
    begin(guard, *direct_.front(), false, false);
  }
  wake_worker();
}

/// Starts an op, the first of its lane. If it is a blocking one, runs it `to_the_end`, or leaves that to a worker.
/// `driving`: this thread is the driver. Returns whether the op has ended.
bool Group::begin(Guard& guard, Op& op, bool to_the_end, bool driving) {
  if (op.followers > 0) return begin_batch(guard, op, driving);
  set_in_flight(op);
  starting_ = true;
  const bool takes_slot = exclusive() && !driving;
  if (takes_slot) driver_busy_ = true;
  guard.unlock();
  auto started = Transport::Start::done;
  const auto failure = attempt([&] { started = transport_->start(op); });
  guard.lock();
  starting_ = false;
  if (takes_slot) release_driver();
  if (failure || started == Transport::Start::done) {
    finish(guard, op, failure ? &*failure : nullptr);
    return true;
  }
  if (op.phase == Op::Phase::overtaken) {
    finish_polled(guard, op);
    return true;
  }
  if (started == Transport::Start::pending) {
    add_pending(op, driving);
  } else {
    op.phase = Op::Phase::ready;
    blocking_.push_back(&op);
    if (to_the_end) {
      run_blocking(guard, op);
      return true;
    }
  }
  return false;
}

/// The same for a batch that begins with this op. Returns whether all of its ops have ended.
bool Group::begin_batch(Guard& guard, Op& first, bool driving) {
  auto& lane = first.direct ? direct_ : queue_;
  const std::vector<Op*> batch(lane.begin(), lane.begin() + first.followers + 1);
  for (Op* op : batch) set_in_flight(*op);
  starting_ = true;
  const bool takes_slot = exclusive() && !driving;
  if (takes_slot) driver_busy_ = true;
  guard.unlock();
  std::vector<Transport::Start> started(batch.size(), Transport::Start::pending);
  const auto failure = attempt([&] { transport_->start_batch(batch, started); });
  guard.lock();
  starting_ = false;
  if (takes_slot) release_driver();
  bool over = true;
  for (size_t i = 0; i < batch.size(); i++) {
    Op& op = *batch[i];
    if (failure || started[i] == Transport::Start::done) {
      finish(guard, op, failure ? &*failure : nullptr);
    } else if (op.phase == Op::Phase::overtaken) {
      finish_polled(guard, op);
    } else {
      add_pending(op, driving);
      over = false;
    }
  }
  return over;
}

/// Removes the first op from its lane.
void Group::set_in_flight(Op& op) {
  if (op.direct) {
    direct_.pop_front();
  } else {
    queue_.pop_front();
    active_++;
  }
  in_flight_++;
  op.phase = Op::Phase::starting;
  if ((op.request.flags & C10D_FLAG_TIMES) != 0) op.issued = op.started = Clock::now();
}

void Group::add_pending(Op& op, bool driving) {
  op.phase = Op::Phase::pending;
  pending_.push_back(&op);
  if (!driving && driver_busy_) interrupt_driver();
  if (start_awaited_ || (!driver_busy_ && driver_wanted_)) done_.notify_all();
}

void Group::run_blocking(Guard& guard, Op& op) {
  blocking_.erase(std::find(blocking_.begin(), blocking_.end(), &op));
  op.phase = Op::Phase::running;
  if (exclusive()) driver_busy_ = true;
  wake_worker();
  guard.unlock();
  const auto failure = attempt([&] { transport_->run_blocking(op); });
  guard.lock();
  if (exclusive()) release_driver();
  finish(guard, op, failure ? &*failure : nullptr);
}

/// Runs a blocking op until the deadline; returns whether it has ended.
bool Group::run_until(Guard& guard, Op& op, Clock::time_point deadline) {
  blocking_.erase(std::find(blocking_.begin(), blocking_.end(), &op));
  op.phase = Op::Phase::running;
  if (exclusive()) driver_busy_ = true;
  wake_worker();
  guard.unlock();
  bool over = false;
  const auto failure = attempt([&] { over = transport_->run_until(op, deadline); });
  guard.lock();
  if (exclusive()) release_driver();
  if (over || failure) {
    finish(guard, op, failure ? &*failure : nullptr);
    return true;
  }
  op.phase = Op::Phase::ready;
  blocking_.push_front(&op);
  return false;
}

/// One round of the driver. Returns how many ops have ended. With `yield`, yields the processor if there was no
/// progress.
size_t Group::progress(Guard& guard, bool yield) {
  guard.unlock();
  ended_.clear();
  const auto broken = attempt([&] { transport_->progress(ended_); });
  if (yield && ended_.empty() && !transport_->advanced()) ::sched_yield();
  guard.lock();
  size_t count = 0;
  for (Op* op : ended_) {
    count++;
    if (op->phase == Op::Phase::starting) {
      op->phase = Op::Phase::overtaken;
      continue;
    }
    pending_.erase(std::find(pending_.begin(), pending_.end(), op));
    finish_polled(guard, *op);
  }
  if (start_awaited_) done_.notify_all();
  // The library may still have its ops: they end by abort(), not at all, or even successfully.
  if (broken) lose(guard, *broken);
  return count;
}

void Group::drive_as_worker(Guard& guard) {
  driver_busy_ = worker_drives_ = true;
  int idle_rounds = 0;
  auto idle_since = Clock::now();
  while (!pending_.empty() && !driver_wanted_) {
    // Starting comes first, or a later op of a peer would wait for one that is only queued here.
    if (Op* next = startable(kicked_through_)) {
      begin(guard, *next, false, true);
      wake_worker();
    } else if (exclusive() && !blocking_.empty()) {
      break;
    } else if (progress(guard, idle_rounds < kYieldsBeforePause) > 0 || transport_->advanced()) {
      idle_rounds = 0;
      idle_since = Clock::now();
    } else if (idle_rounds < kYieldsBeforePause && interrupt_fd_ < 0) {
      idle_rounds++;
    } else {
      // A fraction of the time waited so far, which bounds how late the end is noticed.
      const auto part = std::chrono::duration_cast<microseconds>((Clock::now() - idle_since) / kWaitedPerPause);
      const auto pause = state_ == C10D_OPEN ? std::clamp(part, kShortestPause, kLongestPause) : kFailedPause;
      sleep_as_driver(guard, pause, Clock::time_point::max());
    }
  }
  worker_drives_ = false;
  release_driver();
}

/// Sleeps until the library has something to do, for `pause` if it cannot say so, or until interrupted.
void Group::sleep_as_driver(Guard& guard, microseconds pause, Clock::time_point deadline) {
  if (pending_.empty() || driver_wanted_ || startable(kicked_through_) != nullptr) return;
  const auto now = Clock::now();
  if (interrupt_fd_ < 0 || state_ != C10D_OPEN) {
    guard.wait_until(pause_, std::min<Clock::time_point>(now + pause, deadline));
    return;
  }
  driver_polls_ = true;
  guard.unlock();
  const auto left = std::chrono::ceil<milliseconds>(std::min<Clock::duration>(deadline - now, kPollInterval));
  pollfd sources[2] = {{transport_->event_fd(), POLLIN, 0}, {interrupt_fd_, POLLIN, 0}};
  ::poll(sources, 2, static_cast<int>(std::max<long>(0, left.count())));
  guard.lock();
  driver_polls_ = false;
  uint64_t count = 0;
  if (sources[1].revents != 0) [[maybe_unused]]
    auto got = ::read(interrupt_fd_, &count, sizeof count);
}

/// Drives on the host's thread until `op` has ended or needs something else. Returns false when the deadline has passed
/// or when a worker has to go on.
bool Group::drive_as_waiter(Guard& guard, const Op& op, Clock::time_point deadline) {
  driver_busy_ = true;
  bool goes_on = true;
  int idle_rounds = 0;
  while (goes_on && op.may_be_driven() && !pending_.empty()) {
    if (Op* next = startable(std::max(kicked_through_, op.id))) {
      begin(guard, *next, false, true);
      if (!exclusive()) wake_worker();
    } else if (exclusive() && op.phase == Op::Phase::queued && !blocking_.empty()) {
      goes_on = false;
    } else {
      const bool spins = interrupt_fd_ < 0 || idle_rounds < kYieldsBeforePause;
      const auto ended = progress(guard, spins);
      stats_.driven_by_wait += ended;
      idle_rounds = ended > 0 ? 0 : std::min(idle_rounds + 1, kYieldsBeforePause);
      goes_on = ended > 0 || deadline == Clock::time_point::max() || Clock::now() < deadline;
      if (goes_on && !spins && ended == 0 && op.may_be_driven()) sleep_as_driver(guard, kLongestPause, deadline);
    }
  }
  release_driver();
  return goes_on;
}

void Group::release_driver() {
  driver_busy_ = false;
  if (driver_wanted_) done_.notify_all();
}

void Group::interrupt_driver() {
  if (!driver_polls_) {
    pause_.notify_one();
    return;
  }
  const uint64_t one = 1;
  [[maybe_unused]] auto sent = ::write(interrupt_fd_, &one, sizeof one);
}

/// Does what the thread in wait() can do for `op` and still return by the deadline; false when there is nothing to do.
bool Group::drive_for(Guard& guard, Op& op, Clock::time_point deadline) {
  if (level_ == ThreadLevel::funneled || !may_call()) return false;
  if (Op* next = startable(op.id)) {
    const bool to_the_end = holds_up(*next, op) && next->deadline <= deadline;
    if (begin(guard, *next, to_the_end, false)) stats_.driven_by_wait++;
    return true;
  }
  for (Op* ready : blocking_) {
    if (!holds_up(*ready, op)) continue;
    if (ready->deadline <= deadline) {
      run_blocking(guard, *ready);
    } else if (!run_until(guard, *ready, deadline)) {
      // A worker has to go on.
      return false;
    }
    stats_.driven_by_wait++;
    return true;
  }
  return op.may_be_driven() && !driver_busy_ && !pending_.empty() && drive_as_waiter(guard, op, deadline);
}

}  // namespace c10d
