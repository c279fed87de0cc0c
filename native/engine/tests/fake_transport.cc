#include "fake_transport.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "ops/signature.h"

namespace c10d {

std::shared_ptr<Transport> make_transport(const Config& config) {
  if (config.options.get("make") == "failure") throw Failure(C10D_ERR_UNSUPPORTED, "no such transport");
  return std::make_shared<test::FakeTransport>(config);
}

std::string probe() { return "fake 1.0"; }

namespace test {

using std::chrono::microseconds;

namespace {

constexpr std::chrono::seconds kPatience{10};
/// How often gates are polled.
constexpr microseconds kGateInterval{500};

Outcome outcome_of(const Op& op) { return static_cast<Outcome>(op.request.tag >> 28); }
At place_of(const Op& op) { return static_cast<At>(op.request.tag >> 26 & 3); }
microseconds duration_of(const Op& op) { return microseconds(op.request.tag & ((1U << 26) - 1)); }

ThreadLevel level_of(const std::string& name) {
  if (name == "funneled") return ThreadLevel::funneled;
  return name == "serialized" ? ThreadLevel::serialized : ThreadLevel::multiple;
}

void fail_if_due(Outcome outcome, const Op& op) {
  switch (outcome) {
    case Outcome::mismatch:
    case Outcome::late_mismatch:
      throw desync(C10D_MISMATCH_CALL, 0, 2, "collective #" + std::to_string(op.number)).of_collective(op.number);
    case Outcome::network:
      throw Failure(C10D_ERR_NETWORK, "connection to rank 3 was lost", 3);
    case Outcome::unsupported:
      throw Failure(C10D_ERR_UNSUPPORTED, "no such reduction");
    case Outcome::exception:
      throw std::runtime_error("library error 42");
    case Outcome::number:
      throw 42;
    default:
      break;
  }
}

std::mutex latest_mutex;
std::shared_ptr<Journal> latest_journal;

std::shared_ptr<Journal> new_journal() {
  auto journal = std::make_shared<Journal>();
  const std::lock_guard<std::mutex> lock(latest_mutex);
  latest_journal = journal;
  return journal;
}

}  // namespace

// ---- Journal ---------------------------------------------------------------------------------------------------

std::shared_ptr<Journal> Journal::latest() {
  const std::lock_guard<std::mutex> lock(latest_mutex);
  return latest_journal;
}

Journal::Record Journal::read() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return record_;
}

bool Journal::await(const std::function<bool(const Record&)>& condition) const {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return condition(record_); });
}

bool Journal::await_started(uint64_t id) const {
  return await([id](const Record& record) {
    return std::find(record.started.begin(), record.started.end(), id) != record.started.end();
  });
}

bool Journal::await_aborts() const {
  return await([](const Record& record) { return record.aborts > 0; }) && read().aborts == 1;
}

void Journal::open_gate(uint64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  open_.insert(id);
}

void Journal::open_all() {
  const std::lock_guard<std::mutex> lock(mutex_);
  all_open_ = true;
}

bool Journal::gate_open(uint64_t id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return all_open_ || open_.count(id) > 0;
}

void Journal::lose(const Failure& cause) const {
  const std::lock_guard<std::mutex> lock(exchange_mutex_);
  if (exchange_ != nullptr) exchange_->lost(cause);
}

void Journal::set_exchange(Exchange* exchange) {
  const std::lock_guard<std::mutex> lock(exchange_mutex_);
  exchange_ = exchange;
}

void Journal::note(const std::function<void(Record&)>& change) {
  const std::lock_guard<std::mutex> lock(mutex_);
  change(record_);
  changed_.notify_all();
}

void Journal::call(int delta, bool starts) {
  note([&](Record& record) {
    record.call_threads.insert(pthread_self());
    calls_ += delta;
    if (starts) starts_ += delta;
    record.most_calls = std::max(record.most_calls, calls_);
    record.most_starts = std::max(record.most_starts, starts_);
  });
}

void Journal::in_flight(int delta) {
  note([&](Record& record) {
    in_flight_ += delta;
    record.most_in_flight = std::max(record.most_in_flight, in_flight_);
  });
}

// ---- FakeTransport ---------------------------------------------------------------------------------------------

/// A call into the library, for the journal.
class FakeTransport::Call {
 public:
  explicit Call(Journal& journal, bool starts = false) : journal_(journal), starts_(starts) {
    journal_.call(1, starts_);
  }
  ~Call() { journal_.call(-1, starts_); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

 private:
  Journal& journal_;
  const bool starts_;
};

FakeTransport::FakeTransport(const Config& config)
    : config_(config),
      model_(config.options.get("model", "blocking")),
      connect_(config.options.get("connect", "at-once")),
      concurrency_(static_cast<unsigned>(std::stoul(config.options.get("concurrency", "1")))),
      level_(level_of(config.options.get("level", "multiple"))),
      journal_(new_journal()) {
  if (model_ == "eventfd") timer_fd_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

FakeTransport::~FakeTransport() {
  journal_->set_exchange(nullptr);
  if (timer_fd_ >= 0) ::close(timer_fd_);
}

/// hang: until the abort; stubborn: until the gate of op 0 opens; exchange: uses the store.
void FakeTransport::connect(Exchange& exchange) {
  journal_->set_exchange(&exchange);
  journal_->note([](Journal::Record& record) { record.connect_threads.insert(pthread_self()); });
  if (connect_ == "failure") throw Failure(C10D_ERR_NETWORK, "rank 1 does not answer", 1);
  if (connect_ == "exception") throw std::runtime_error("no device");
  if (connect_ == "number") throw 42;
  if (connect_ == "exchange") use_store(exchange);
  if (connect_ != "hang" && connect_ != "stubborn") return;
  for (;;) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (connect_ == "hang" && aborted_) throw Failure(C10D_ERR_ABORTED, "connect was woken by the abort");
    }
    if (connect_ == "stubborn" && journal_->gate_open(0)) return;
    std::this_thread::sleep_for(kGateInterval);
  }
}

/// Publishes its value and reads those of all others, with all reads in flight at once.
void FakeTransport::use_store(Exchange& exchange) {
  exchange.log("rank " + std::to_string(config_.rank) + " connects");
  const std::string own = "value of rank " + std::to_string(config_.rank);
  exchange.set("rank/" + std::to_string(config_.rank), own.data(), own.size());
  std::vector<uint64_t> requests;
  for (int rank = 0; rank < config_.world_size; rank++) {
    if (rank != config_.rank) requests.push_back(exchange.request("rank/" + std::to_string(rank)));
  }
  std::string got;
  for (const uint64_t request : requests) {
    const auto value = exchange.await(request, config_.connect_deadline);
    got.append(value.begin(), value.end()).append(";");
  }
  exchange.set("got", got.data(), got.size());
}

void FakeTransport::check(const Op& op) const {
  if (place_of(op) == At::check) fail_if_due(outcome_of(op), op);
}

Transport::Start FakeTransport::start(Op& op) {
  const Call call(*journal_, true);
  journal_->note([&](Journal::Record& record) {
    record.started.push_back(op.id);
    record.numbers.push_back(op.number);
  });
  if (place_of(op) == At::start) fail_if_due(outcome_of(op), op);
  journal_->in_flight(1);
  const bool polls = model_ == "polling" || model_ == "eventfd" || (model_ == "mixed" && op.point_to_point());
  if (model_ == "instant") {
    deliver(op);
    return Start::done;
  }
  if (!polls) return Start::blocking;
  const std::lock_guard<std::mutex> lock(mutex_);
  pending_.push_back({&op, Clock::now() + duration_of(op)});
  arm_timer();
  return Start::pending;
}

void FakeTransport::start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) {
  const Call call(*journal_, true);
  journal_->note([&](Journal::Record& record) {
    record.batches.emplace_back();
    for (const Op* op : ops) {
      record.batches.back().push_back(op->id);
      record.started.push_back(op->id);
      record.numbers.push_back(op->number);
    }
  });
  for (const Op* op : ops) {
    if (place_of(*op) == At::start) fail_if_due(outcome_of(*op), *op);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < ops.size(); i++) {
    journal_->in_flight(1);
    if (model_ == "instant" || (model_ == "mixed" && !ops[i]->point_to_point())) {
      deliver(*ops[i]);
      started[i] = Start::done;
    } else {
      pending_.push_back({ops[i], Clock::now() + duration_of(*ops[i])});
      started[i] = Start::pending;
    }
  }
  arm_timer();
}

void FakeTransport::run_blocking(Op& op) { run_until(op, Clock::time_point::max()); }

bool FakeTransport::run_until(Op& op, Clock::time_point deadline) {
  if (deadline != Clock::time_point::max() && config_.options.get("interruptible") != "1") {
    journal_->note([](Journal::Record& record) { record.left_to_workers++; });
    return false;
  }
  const Call call(*journal_);
  journal_->note([&](Journal::Record& record) { record.run_threads.insert(pthread_self()); });
  const auto due = Clock::now() + duration_of(op);
  try {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!over(op, due, Clock::now())) {
      if (Clock::now() >= deadline) return false;
      changed_.wait_until(lock, std::min(deadline, std::max(due, Clock::now() + kGateInterval)));
    }
  } catch (...) {
    journal_->in_flight(-1);
    throw;
  }
  deliver(op);
  return true;
}

bool FakeTransport::over(const Op& op, Clock::time_point due, Clock::time_point now) const {
  const auto outcome = outcome_of(op);
  if (outcome == Outcome::stubborn) return journal_->gate_open(op.id);
  if (outcome == Outcome::late_mismatch) {
    if (!aborted_) return false;
    fail_if_due(outcome, op);
  }
  if (aborted_) throw Failure(C10D_ERR_ABORTED, "the op was woken by the abort");
  if (now < due) return false;
  fail_if_due(outcome, op);
  if (outcome == Outcome::broken_progress) throw std::logic_error("not to be polled");
  if (outcome == Outcome::gated) return journal_->gate_open(op.id);
  return outcome != Outcome::hang;
}

void FakeTransport::progress(std::vector<Op*>& ended) {
  const Call call(*journal_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pending_.empty()) journal_->note([](Journal::Record& record) { record.idle_calls++; });
  const auto now = Clock::now();
  for (size_t i = 0; i < pending_.size();) {
    Op& op = *pending_[i].op;
    if (outcome_of(op) == Outcome::broken_progress && pending_[i].due <= now && !journal_->gate_open(op.id)) {
      throw 42;
    }
    bool finished = false;
    const auto failure = attempt([&] { finished = over(op, pending_[i].due, now); });
    if (!finished && !failure) {
      i++;
      continue;
    }
    journal_->note([](Journal::Record& record) { record.run_threads.insert(pthread_self()); });
    if (failure) {
      op.failure = *failure;
      journal_->in_flight(-1);
    } else {
      deliver(op);
    }
    ended.push_back(&op);
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  arm_timer();
}

void FakeTransport::deliver(Op& op) {
  op.source = op.request.peer;
  const uint64_t result = result_of(op.ticket);
  if (!op.outputs.empty() && op.outputs[0].bytes >= sizeof result) std::memcpy(op.output(), &result, sizeof result);
  journal_->note([&](Journal::Record& record) { record.ended.push_back(op.id); });
  journal_->in_flight(-1);
}

/// Makes the descriptor readable when the next op is due; at once where that hangs on an abort or a gate.
void FakeTransport::arm_timer() {
  if (timer_fd_ < 0) return;
  auto next = Clock::time_point::max();
  for (const auto& entry : pending_) {
    const auto outcome = outcome_of(*entry.op);
    const bool held = outcome == Outcome::hang || outcome == Outcome::gated || outcome == Outcome::stubborn ||
                      outcome == Outcome::late_mismatch;
    if (!held || aborted_) next = std::min(next, entry.due);
    if (held) next = std::min(next, Clock::now() + kGateInterval);
  }
  itimerspec when{};
  if (next != Clock::time_point::max()) {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(next.time_since_epoch()).count();
    when.it_value.tv_sec = ns / 1'000'000'000;
    when.it_value.tv_nsec = std::max<long>(ns % 1'000'000'000, 1);
  }
  ::timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void FakeTransport::abort(const Failure& cause) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    aborted_ = cause;
    changed_.notify_all();
    arm_timer();
  }
  journal_->note([&](Journal::Record& record) {
    record.aborts++;
    record.abort_text = cause.text();
  });
}

void FakeTransport::close() noexcept {
  const Call call(*journal_);
  journal_->note([](Journal::Record& record) { record.closes++; });
}

}  // namespace test
}  // namespace c10d
