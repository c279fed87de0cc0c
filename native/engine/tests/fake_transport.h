// A communicator with one rank and no library behind it. Options set the behaviour of the transport, the tag that of an
// op. It keeps a journal of how the engine used it.
//
// Options
//   model=blocking   start() leaves each op to run_blocking() (default)
//   model=instant    start() ends each op
//   model=polling    progress() ends each op
//   model=eventfd    the same, with a descriptor
//   model=mixed      collectives as blocking, point-to-point ops as polling
//   level=multiple|serialized|funneled
//   concurrency=N
//   awaited=N        the rank that ops wait for
//   keeps=1          buffers may be in use after an abort
//   interruptible=1  blocking ops can be interrupted
//   batches=1        ops of a submission start as one and end as with polling (collectives of model=mixed: instant)
//   messages=in-order
//   idle=MS          progress() is called while nothing is in flight
//   connect=at-once|hang|stubborn|failure|exception|number|exchange: see connect()
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/transport.h"

namespace c10d::test {

/// How an op ends.
enum class Outcome : uint32_t {
  /// Succeeds after its duration.
  success,
  /// Succeeds once the journal's gate for it is open, or fails at the abort.
  gated,
  /// Ends only at the abort.
  hang,
  /// Succeeds once its gate is open, whatever else happens.
  stubborn,
  /// Fails: a peer is lost.
  network,
  /// Fails: another rank made a different call.
  mismatch,
  /// The same, found only when the op is aborted.
  late_mismatch,
  /// Is refused.
  unsupported,
  /// Ends by an exception that is not a Failure.
  exception,
  /// Ends by an exception that is not even a std::exception.
  number,
  /// progress() throws when it is due.
  broken_progress,
};

enum class At : uint32_t { end = 0, start = 1, check = 2 };

/// The tag of an op that ends like this: where it fails, and how long it takes before.
constexpr uint32_t script(Outcome outcome, uint32_t duration_us = 0, At at = At::end) {
  return static_cast<uint32_t>(outcome) << 28 | static_cast<uint32_t>(at) << 26 | duration_us;
}

/// What an op that succeeds writes to its output.
constexpr uint64_t result_of(uint64_t ticket) { return 1000 + ticket; }

/// How the engine used a transport; outlives it.
class Journal {
 public:
  /// That of the transport created last.
  static std::shared_ptr<Journal> latest();

  /// What tests read; copied under the lock.
  struct Record {
    std::vector<uint64_t> started;
    std::vector<uint64_t> numbers;  // Op::number of those
    std::vector<std::vector<uint64_t>> batches;
    std::vector<uint64_t> ended;
    std::set<pthread_t> connect_threads;
    std::set<pthread_t> call_threads;  // start(), run_blocking(), progress(), close()
    std::set<pthread_t> run_threads;   // run_blocking(), and progress() that ended an op
    unsigned most_calls = 0;           // threads inside the library at the same time
    unsigned most_starts = 0;
    unsigned most_in_flight = 0;  // ops started and not ended
    /// Calls of run_until() for ops that it cannot run.
    unsigned left_to_workers = 0;
    unsigned aborts = 0;
    unsigned closes = 0;
    unsigned idle_calls = 0;  // progress() with nothing in flight
    std::string abort_text;
  };
  Record read() const;
  /// Waits until the record satisfies `condition`; false after 10 s.
  bool await(const std::function<bool(const Record&)>& condition) const;
  bool await_started(uint64_t id) const;
  /// Waits for the abort, which follows the events of the failure; false if there is none or a second one.
  bool await_aborts() const;

  /// Lets the gated or stubborn op end.
  void open_gate(uint64_t id);
  /// Lets everything gated or stubborn end, now and later, connecting included.
  void open_all();
  bool gate_open(uint64_t id) const;

  /// Reports a loss to the engine, as a thread of the library would.
  void lose(const Failure& cause) const;

  void set_exchange(Exchange* exchange);
  void note(const std::function<void(Record&)>& change);
  void call(int delta, bool starts);
  void in_flight(int delta);

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  Record record_;
  unsigned calls_ = 0;
  unsigned starts_ = 0;
  unsigned in_flight_ = 0;
  std::set<uint64_t> open_;
  bool all_open_ = false;
  mutable std::mutex exchange_mutex_;
  Exchange* exchange_ = nullptr;
};

class FakeTransport final : public Transport {
 public:
  explicit FakeTransport(const Config& config);
  ~FakeTransport() override;

  void connect(Exchange& exchange) override;
  void check(const Op& op) const override;
  void number(Op& op) noexcept override { op.ticket = next_ticket_++; }
  Start start(Op& op) override;
  bool takes_batches() const override { return config_.options.get("batches") == "1"; }
  void start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) override;
  bool messages_overtake() const override { return config_.options.get("messages") != "in-order"; }
  void run_blocking(Op& op) override;
  bool run_until(Op& op, Clock::time_point deadline) override;
  void progress(std::vector<Op*>& ended) override;
  std::chrono::milliseconds idle_interval() const override {
    return std::chrono::milliseconds(std::stoi(config_.options.get("idle", "0")));
  }
  int event_fd() override { return timer_fd_; }
  unsigned max_concurrency() const override { return concurrency_; }
  int awaited_peer() override { return std::stoi(config_.options.get("awaited", "-1")); }
  ThreadLevel thread_level() const override { return level_; }
  void abort(const Failure& cause) noexcept override;
  bool abort_lets_go() const override { return config_.options.get("keeps") != "1"; }
  void close() noexcept override;

 private:
  class Call;
  struct Pending {
    Op* op;
    Clock::time_point due;
  };

  void use_store(Exchange& exchange);
  /// Whether the op has ended by `now`; throws if it failed.
  bool over(const Op& op, Clock::time_point due, Clock::time_point now) const;
  void deliver(Op& op);
  void arm_timer();

  const Config config_;
  const std::string model_;
  const std::string connect_;
  const unsigned concurrency_;
  const ThreadLevel level_;
  const std::shared_ptr<Journal> journal_;
  uint64_t next_ticket_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Failure> aborted_;
  std::vector<Pending> pending_;
  int timer_fd_ = -1;
};

}  // namespace c10d::test
