// One communicator: order, queueing, time-outs, failure and completion of its ops, over a Transport.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/event_queue.h"
#include "engine/op_table.h"
#include "engine/transport.h"

namespace c10d {

/// Threads: a monitor, which watches deadlines; workers, which run blocking ops and drive pending ones; and the host's
/// thread, which does the same inside wait() where that can return in time. The first worker connects; more are started
/// when all are busy. Everything below is guarded by one mutex, which is never held during a call into the library. The
/// driver is the thread that calls progress(); there is one at a time.
///
/// Collectives start in order once kicked or waited for, limited by concurrency and fences. Point-to-point ops have a
/// lane of their own and start at once, unless the transport takes them in order; a batch that the transport takes as
/// one stays together.
///
/// If ranks call different collectives, they fail from that collective on. The calls before it match, so these have a
/// few seconds to end. A rank that fails breaks its connections, which others may notice before they have compared
/// their calls: after a lost connection, ops fail only when those in flight have ended, with the mismatch if one of
/// them found it.
///
/// No work is lost, since a thread that adds work, or leaves some behind, wakes a worker before it releases the mutex.
class Group final : private Exchange {
 public:
  /// Throws Failure.
  Group(std::shared_ptr<Transport> transport, const Config& config);
  ~Group() override;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int wake_fd() { return events_.host_fd(); }
  uint32_t drain(void* events, uint32_t size, uint32_t max);
  int32_t read_exchange(uint64_t id, void* key, uint32_t key_capacity, void* value, uint32_t value_capacity);
  int32_t reply_exchange(uint64_t id, int32_t status, const void* data, uint32_t bytes);

  /// Throws Failure.
  uint64_t submit(const c10d_op* ops, uint32_t count, const void* input, void* output);
  void skip_turn();
  void kick();
  int32_t wait(uint64_t id, double timeout_ms, c10d_event& result);
  /// Throws Failure, also that of the op.
  int32_t synchronize(uint64_t id, uint64_t stream, double timeout_ms);
  /// Whether the library has got an op, or the op has ended.
  bool has_started(uint64_t id);
  /// How an op failed; nothing if it did not, or if that was taken before. For op 0: how the group failed.
  std::optional<Failure> take_failure(uint64_t id);
  c10d_capabilities capabilities();
  uint64_t window_address(uint64_t address, int32_t rank);
  /// Throws Failure.
  std::shared_ptr<Transport> split(const Config& config, int32_t color);
  c10d_state state();
  void abort(int32_t status, const std::string& reason);
  c10d_stats stats();
  /// Returns whether all threads have ended, so that the object may be deleted. If not, `still_running` ops keep their
  /// buffers, and close() may be called again.
  bool close(double timeout_ms, int32_t& still_running);

 private:
  /// Lock that, whenever it releases the mutex, sends the wake byte and wakes the workers that are due.
  class Guard;

  // Exchange, in group_exchange.cc.
  void set(const std::string& key, const void* value, size_t bytes) override;
  uint64_t request(const std::string& key) override;
  std::vector<char> await(uint64_t request, Clock::time_point deadline) override;
  void log(const std::string& text) override;
  void lost(const Failure& cause) override;

  struct ExchangeRecord {
    c10d_event_kind kind;
    std::string key;
    std::vector<char> value;
    bool answered = false;
    int32_t status = C10D_OK;
  };
  uint64_t post_exchange(c10d_event_kind kind, const std::string& key, const void* value, size_t bytes);

  // Threads and the running of ops, in group_run.cc.
  void start_thread(const char* name, void (Group::*body)());
  void first_worker();
  void connect();
  void worker();
  void wait_for_work(Guard& guard);
  bool idle_call_due() const;
  void call_while_idle(Guard& guard);
  void wake_worker();
  bool worker_has_work() const;
  void start_direct(Guard& guard);
  bool drive_for(Guard& guard, Op& op, Clock::time_point deadline);
  Op* startable(uint64_t through) const;
  bool holds_up(const Op& first, const Op& op) const;
  bool begin(Guard& guard, Op& op, bool to_the_end, bool driving);
  bool begin_batch(Guard& guard, Op& first, bool driving);
  void enqueue(std::unique_ptr<Op> made, bool direct);
  void set_in_flight(Op& op);
  void add_pending(Op& op, bool driving);
  void run_blocking(Guard& guard, Op& op);
  bool run_until(Guard& guard, Op& op, Clock::time_point deadline);
  size_t progress(Guard& guard, bool yield);
  void drive_as_worker(Guard& guard);
  bool drive_as_waiter(Guard& guard, const Op& op, Clock::time_point deadline);
  void sleep_as_driver(Guard& guard, std::chrono::microseconds pause, Clock::time_point deadline);
  void release_driver();
  void interrupt_driver();
  /// Whether only the driver may call the library, with any function; else the driver slot is for progress() alone.
  bool exclusive() const { return level_ != ThreadLevel::multiple; }
  bool may_call() const { return !exclusive() || !driver_busy_; }
  bool idle() const { return in_flight_ == 0 && queue_.empty() && direct_.empty() && held_.empty(); }

  void monitor();
  void expire(Guard& guard);
  void report_stuck();
  void announce_ready();
  bool lose(Guard& guard, const Failure& cause);
  void announce_loss(const Failure& cause);
  void finish(Guard& guard, Op& op, const Failure* failure);
  void finish_polled(Guard& guard, Op& op);
  void conclude(Op& op);
  void conclude_held();
  bool may_hide_mismatch(const Failure& cause) const;
  void copy_back(Guard& guard, Op& op);
  void fail(Guard& guard, const Failure& cause);
  void fail_by_mismatch(Guard& guard);
  bool hold(const Failure& failure, const Op* op = nullptr);
  bool awaits_earlier(const Failure& mismatch);
  c10d_event event_of(const Op& op, c10d_event_kind kind) const;

  std::shared_ptr<Transport> transport_;
  const Config config_;
  const ThreadLevel level_;
  const bool batches_;    // a submission is started as one
  const bool overtakes_;  // point-to-point ops have a lane of their own
  const bool copies_;     // native code never sees the host's buffers
  const std::chrono::milliseconds idle_interval_;

  std::mutex mutex_;
  std::condition_variable done_;        // the host's thread: an op has ended, or the driver slot is free
  std::condition_variable work_;        // idle workers: something to do
  std::condition_variable pause_;       // the driver, between two rounds: something to do
  std::condition_variable watch_;       // monitor: check the clock again
  std::condition_variable answered_;    // exchange
  std::condition_variable thread_end_;  // close()

  EventQueue events_;
  OpTable table_;
  std::deque<Op*> queue_;     // collectives to start
  std::deque<Op*> direct_;    // ops that do not queue behind collectives
  std::deque<Op*> blocking_;  // started, run_blocking() to be called
  std::vector<Op*> pending_;  // started, progress() to be called
  std::vector<Op*> held_;     // failed, but the cause is not yet known
  std::vector<Op*> ended_;    // scratch of the driver
  std::unordered_map<uint64_t, ExchangeRecord> exchange_;
  uint64_t next_exchange_ = 1;

  c10d_state state_ = C10D_CONNECTING;
  std::optional<Failure> cause_;
  std::optional<Failure> loss_;      // for the monitor to fail the group with
  std::optional<Failure> mismatch_;  // will fail the group when the collectives before it have ended
  Clock::time_point mismatch_until_ = Clock::time_point::max();  // or at this time
  Clock::time_point watched_until_;                              // the monitor sleeps until then
  Clock::time_point next_idle_call_;
  uint64_t kicked_through_ = 0;
  unsigned max_concurrency_ = 1;
  unsigned active_ = 0;     // collectives started and not ended
  unsigned in_flight_ = 0;  // all ops started and not ended
  bool starting_ = false;
  bool driver_busy_ = false;
  bool driver_wanted_ = false;  // the thread in wait() sleeps, but drives as soon as there is something to drive
  bool worker_drives_ = false;  // the driver is a worker
  bool driver_polls_ = false;   // it sleeps on descriptors, not on pause_
  bool start_awaited_ = false;  // the host's thread sleeps until an op has started
  bool ready_announced_ = false;
  bool loss_unannounced_ = false;  // C10D_EVENT_LOST is pushed with the failures of held_
  bool in_order_ = false;          // closed with nothing in flight
  bool stopping_ = false;

  std::vector<std::thread> threads_;
  unsigned live_threads_ = 0;
  unsigned idle_workers_ = 0;   // including those that have not started yet
  unsigned worker_wakes_ = 0;   // idle workers to wake when the mutex is released
  bool worker_waking_ = false;  // one was woken or started, and has not looked for work yet
  unsigned aborters_ = 0;       // threads in abort()
  int interrupt_fd_ = -1;

  uint64_t collectives_ = 0;  // Op::number of the last one
  c10d_stats stats_{};
  Capabilities capabilities_;
};

}  // namespace c10d
