// What a shim implements: one communicator of a native library. Threads, queues and time-outs are the engine's.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "ops/device.h"
#include "ops/failure.h"
#include "ops/op.h"

namespace c10d {

/// What the group does for its transport: it gives access to the host's store, in connect() only, and is notified of
/// losses.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// Stores a value. Throws Failure.
  virtual void set(const std::string& key, const void* value, size_t bytes) = 0;
  /// Asks for a value, which await() returns, so that several requests can be in flight. Never 0.
  virtual uint64_t request(const std::string& key) = 0;
  /// Waits until `deadline` for the value of a request. Throws Failure naming the key.
  virtual std::vector<char> await(uint64_t request, Clock::time_point deadline) = 0;
  /// A message for the log.
  virtual void log(const std::string& text) = 0;
  /// Fails the group because of something that no call reports, such as the loss of a peer while no op is in flight.
  /// From any thread, even before connect() has returned; does not block and does not call abort() on this thread.
  virtual void lost(const Failure& cause) { (void)cause; }
};

/// Options of c10d_config.
class Options {
 public:
  Options(const char* data, size_t bytes);
  /// Value of `key`, or `fallback` when it is absent.
  std::string get(const std::string& key, const std::string& fallback = "") const;

 private:
  std::vector<std::pair<std::string, std::string>> entries_;
};

struct Config {
  int32_t rank;
  int32_t world_size;
  Device device;
  Clock::time_point connect_deadline;
  Options options;
};

/// Which threads may call the library at the same time.
enum class ThreadLevel {
  /// Exactly one thread ever calls connect(), start(), run_blocking(), progress() and close(): wait() never does.
  funneled,
  /// One thread at a time.
  serialized,
  /// Any number.
  multiple,
};

/// What a group can do: 0 where its transport has no restriction, see c10d_capabilities.
struct Capabilities {
  uint64_t ops = 0;
  uint64_t services = 0;
  uint64_t dtypes = 0;
  uint64_t reduce_ops = 0;
};

/// connect(), start(), start_batch(), run_blocking(), run_until(), progress() and close() are called without a lock,
/// from the threads that thread_level() allows. abort() and awaited_peer() are called without a lock from any thread.
/// All others are called under the group's mutex and must be quick.
class Transport : public std::enable_shared_from_this<Transport> {
 public:
  virtual ~Transport() = default;

  /// Called once, when connected.
  virtual Capabilities capabilities() const { return {}; }

  /// Connects all ranks, on a native thread. Throws Failure. abort() from another thread makes it return soon, even if
  /// abort() is called first.
  virtual void connect(Exchange& exchange) = 0;

  /// Throws Failure with C10D_ERR_INVALID or C10D_ERR_UNSUPPORTED if this op cannot be carried out.
  virtual void check(const Op& op) const = 0;

  /// Stores in op.ticket what depends on the op's place in the order, such as a tag. Called in the order of submission,
  /// after check().
  virtual void number(Op& op) noexcept = 0;

  enum class Start { done, pending, blocking };

  /// Starts an op: it is done, pending (then progress() finishes it), or `blocking` if run_blocking() is to be called.
  /// Does not block. Called in the order of submission, never by two threads at the same time.
  virtual Start start(Op&) { return Start::blocking; }

  /// Whether the ops of one submission are started by one start_batch().
  virtual bool takes_batches() const { return false; }

  /// Starts several ops as one: none of them waits for another of them. `started` is filled with `pending`; an op that
  /// has ended already is set to `done`. Throwing fails all of them.
  virtual void start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) {
    (void)ops;
    (void)started;
  }

  /// Whether point-to-point ops start at submit; if not, they start in their order among the collectives.
  virtual bool messages_overtake() const { return true; }

  /// Whether start() does something that peers wait for. Then the host's thread calls it itself, which is sooner than
  /// waking a worker. Only with ThreadLevel::multiple.
  virtual bool starts_when_kicked() const { return false; }

  /// Runs an op on this thread; when it returns or throws, the buffers are no longer in use. Throws Failure or
  /// anything else derived from std::exception.
  virtual void run_blocking(Op&) {}

  /// The same until the deadline; another thread may then run the op to its end. Returns whether it has ended.
  virtual bool run_until(Op&, Clock::time_point deadline) {
    (void)deadline;
    return false;
  }

  /// Drives the pending ops and appends those that have ended to `ended`, with op.failure set or, of a recv, op.source.
  /// Does not block; called by one thread at a time. Throwing fails the group, but for a mismatch of a collective, see
  /// Failure::collective(): it waits for the collectives before it, and may be thrown again while they are in flight.
  virtual void progress(std::vector<Op*>& ended) { (void)ended; }

  /// Whether the last progress() brought an op nearer to its end, so that it should be called again soon.
  virtual bool advanced() const { return false; }

  /// How often the only thread that may call the library calls progress() while nothing is in flight, and at once when
  /// the group fails; zero: never. For libraries that are asked for errors.
  virtual std::chrono::milliseconds idle_interval() const { return std::chrono::milliseconds(0); }

  /// Descriptor that becomes readable when progress() has something to do; -1 if the library has none.
  virtual int event_fd() { return -1; }

  /// Whether the op may start only after all earlier collectives have ended.
  virtual bool fences(const Op& op) const { return op.request.opcode == C10D_OP_BARRIER; }

  /// Collectives that may be in flight at the same time; called once, when connected.
  virtual unsigned max_concurrency() const { return 1; }

  /// Whether the device has streams, so that synchronize() works.
  virtual bool has_streams() const { return false; }

  /// Whether a pending op is on the device, so that synchronize() can wait for it; if not, progress() brings it there.
  virtual bool has_issued(const Op&) { return true; }

  /// Makes what is put into a stream from now on wait for an op that was issued. Other threads may be in start() or
  /// progress() at the same time, and progress() may be ending the op. Throws Failure.
  virtual void synchronize(Op& op, uint64_t stream) {
    (void)op;
    (void)stream;
  }

  /// Whether make_split() works.
  virtual bool can_split() const { return false; }

  /// The transport of a group of those of these ranks that have the same color. Its connect(), on its own thread, calls
  /// the library's split; ops of this transport that are submitted before that returns come after the split. The new
  /// transport keeps what it needs of this one by shared_from_this(): the parent group may be closed first. Called while
  /// nothing is in flight. Throws Failure.
  virtual std::shared_ptr<Transport> make_split(const Config& config, int32_t color) {
    (void)config;
    (void)color;
    return nullptr;
  }

  /// Address in this process of another rank's memory in an open window, 0 if it is not accessible: see
  /// c10d_window_address.
  virtual uint64_t window_address(uint64_t address, int32_t rank) {
    (void)address;
    (void)rank;
    return 0;
  }

  /// A rank that the ops in flight wait for, to be named when one of them times out; -1 if unknown.
  virtual int awaited_peer() { return -1; }

  virtual ThreadLevel thread_level() const { return ThreadLevel::multiple; }

  /// Wakes everything that blocks in the library and makes all pending ops end, promptly. Called from any thread, at
  /// most once. Ops started later fail at once.
  virtual void abort(const Failure& cause) noexcept = 0;

  /// How long ops may stay in the library after abort() before they are reported as ended anyway, with their buffers
  /// still borrowed. Short for a library that cannot cancel its ops.
  virtual std::chrono::milliseconds abort_grace() const { return std::chrono::milliseconds(1000); }

  /// Whether abort() can make the library, and peers that access this process through it, release all buffers. If not,
  /// ops of a host thread whose memory may be freed before the process ends work on copies.
  virtual bool abort_lets_go() const { return true; }

  /// Closes an open communicator that has nothing in flight.
  virtual void close() noexcept {}
};

/// Each shim defines these two. probe() returns the name and version of the library, which it loads if necessary.
/// Throws Failure with C10D_ERR_UNAVAILABLE if that cannot be used here.
std::shared_ptr<Transport> make_transport(const Config& config);
std::string probe();

}  // namespace c10d
