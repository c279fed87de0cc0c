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

/// Threads: a monitor, which watches deadlines; workers, which run blocking ops and drive pending ones, the first of
/// which connects, further ones being hired when all are busy; and the host's thread, which does the same inside wait()
/// where that can return in time. Everything below is guarded by one mutex, which is never held while the library works.
///
/// Collectives start in order, as far as the concurrency limit and fences let them, once kicked or waited for.
/// Point-to-point ops have a lane of their own and start at once, unless the transport wants them in order; a batch that the
/// transport takes as one stays together.
///
/// Ranks that have called different things fail from that collective on: what comes before it, they have called alike, so it
/// has a few seconds to end well. A rank that fails so breaks its connections, which others may notice before they have
/// compared: after a lost connection, ops fail only when those under way have come back, with the mismatch if one has it.
///
/// No work is lost because whoever makes some, or leaves some behind, calls a worker before it lets go of the mutex.
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
  /// How an op has failed; nothing if it has not, or if that was taken before. Of op 0: how the group has failed.
  std::optional<Failure> take_failure(uint64_t id);
  c10d_capabilities capabilities();
  uint64_t window_address(uint64_t address, int32_t rank);
  /// Throws Failure.
  std::shared_ptr<Transport> split(const Config& config, int32_t color);
  c10d_state state();
  void abort(int32_t status, const std::string& reason);
  c10d_stats stats();
  /// Whether all threads have ended, so that the object may be deleted; else `still_running` ops keep their buffers, and
  /// it may be called again.
  bool close(double timeout_ms, int32_t& still_running);

 private:
  /// Lock that sends a due wake byte and wakes workers that were called, whenever it lets go of the mutex.
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
  void lead();
  void connect();
  void worker();
  void call_worker();
  bool worker_has_work() const;
  void start_direct(Guard& guard);
  bool take_part(Guard& guard, Op& op, Clock::time_point deadline);
  Op* startable(uint64_t through) const;
  bool holds_up(const Op& first, const Op& op) const;
  bool begin(Guard& guard, Op& op, bool to_the_end, bool seated);
  bool begin_batch(Guard& guard, Op& first, bool seated);
  void enqueue(std::unique_ptr<Op> made, bool direct);
  void set_under_way(Op& op);
  void note_pending(Op& op, bool seated);
  void carry_out(Guard& guard, Op& op);
  bool carry_on(Guard& guard, Op& op, Clock::time_point deadline);
  size_t progress(Guard& guard, bool yield);
  void drive_as_worker(Guard& guard);
  bool drive_as_waiter(Guard& guard, const Op& op, Clock::time_point deadline);
  void sleep_as_driver(Guard& guard, std::chrono::microseconds pause, Clock::time_point deadline);
  void release_driver();
  void interrupt_driver();
  /// Whether only the thread in the driver's seat may call the library; else the seat is for progress() alone.
  bool exclusive() const { return level_ != ThreadLevel::multiple; }
  bool may_call() const { return !exclusive() || !driver_busy_; }
  bool idle() const { return under_way_ == 0 && queue_.empty() && direct_.empty() && held_.empty(); }

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
  bool may_be_mistaken(const Failure& cause) const;
  void copy_back(Guard& guard, Op& op);
  void fail(Guard& guard, const Failure& cause);
  void fail_by_mismatch(Guard& guard);
  bool hold(const Failure& failure, const Op* op = nullptr);
  bool awaits_earlier(const Failure& mismatch);
  c10d_event event_of(const Op& op, c10d_event_kind kind) const;

  std::shared_ptr<Transport> transport_;
  const Config config_;
  const ThreadLevel level_;
  const bool batches_;    // a submission is begun as one
  const bool overtakes_;  // point-to-point ops have a lane of their own
  const bool copies_;     // native code never sees the host's buffers

  std::mutex mutex_;
  std::condition_variable done_;        // the host's thread: an op has ended, or the driver's seat is free
  std::condition_variable work_;        // idle workers: something to do
  std::condition_variable pause_;       // the driver, between two rounds: something to do
  std::condition_variable watch_;       // monitor: look at the clock again
  std::condition_variable answered_;    // exchange
  std::condition_variable thread_end_;  // close()

  EventQueue events_;
  OpTable table_;
  std::deque<Op*> queue_;     // collectives to start
  std::deque<Op*> direct_;    // ops that queue behind no collective
  std::deque<Op*> blocking_;  // started, run_blocking() to be called
  std::vector<Op*> pending_;  // started, progress() to be called
  std::vector<Op*> held_;     // failed, but the cause is still to be found out
  std::vector<Op*> ended_;    // scratch of whoever is in the driver's seat
  std::unordered_map<uint64_t, ExchangeRecord> exchange_;
  uint64_t next_exchange_ = 1;

  c10d_state state_ = C10D_CONNECTING;
  std::optional<Failure> cause_;
  std::optional<Failure> loss_;      // for the monitor to fail the group with
  std::optional<Failure> mismatch_;  // will fail the group when the collectives before it have ended
  Clock::time_point mismatch_until_ = Clock::time_point::max();  // or then
  Clock::time_point watched_until_;                              // the monitor sleeps until then
  uint64_t kicked_through_ = 0;
  unsigned max_concurrency_ = 1;
  unsigned active_ = 0;     // collectives started and not ended
  unsigned under_way_ = 0;  // all ops started and not ended
  bool starting_ = false;
  bool driver_busy_ = false;
  bool driver_wanted_ = false;  // the thread in wait() sleeps, but drives as soon as there is something to drive
  bool worker_drives_ = false;  // the driver is a worker
  bool driver_polls_ = false;   // it sleeps on descriptors, not on pause_
  bool start_awaited_ = false;  // the host's thread sleeps until an op has started
  bool ready_announced_ = false;
  bool loss_unannounced_ = false;  // to be made known with what is held
  bool in_order_ = false;          // closed with nothing left to do
  bool stopping_ = false;

  std::vector<std::thread> threads_;
  unsigned live_threads_ = 0;
  unsigned idle_workers_ = 0;  // counting those that have not yet begun
  unsigned worker_calls_ = 0;  // idle workers to be woken when the mutex is free
  unsigned aborters_ = 0;      // threads in abort()
  int interrupt_fd_ = -1;

  uint64_t collectives_ = 0;  // Op::number of the last one
  c10d_stats stats_{};
  Capabilities capabilities_;
};

}  // namespace c10d
