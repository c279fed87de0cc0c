// What a shim implements: one communicator of a native library, without threads, queues or time-outs of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/device.h"
#include "ops/failure.h"
#include "ops/op.h"

namespace c10d {

/// What the group does for its transport: it serves the host's store, for connect() only, and is notified of losses.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// Stores a value. Throws Failure.
  virtual void set(const std::string& key, const void* value, size_t bytes) = 0;
  /// Asks for a value, to be taken by await(); so several can be under way at once. Never 0.
  virtual uint64_t request(const std::string& key) = 0;
  /// The value of a request, waiting for it until `deadline`. Throws Failure naming the key.
  virtual std::vector<char> await(uint64_t request, Clock::time_point deadline) = 0;
  /// A remark for the log.
  virtual void log(const std::string& text) = 0;
  /// Fails the group because of something that no call reports, such as the loss of a peer while nothing is under way. From
  /// any thread, also before connect() has returned; does not block and does not call abort() on this thread.
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

/// Who may call the library at the same time.
enum class ThreadLevel {
  /// Exactly one thread ever calls connect(), start(), run_blocking(), progress() and close(): wait() never does.
  funneled,
  /// One thread at a time.
  serialized,
  /// Any number.
  multiple,
};

/// What a group can do, as far as its transport has something to say about it: see c10d_capabilities.
struct Capabilities {
  uint64_t ops = 0;
  uint64_t services = 0;
  uint64_t dtypes = 0;
  uint64_t reduce_ops = 0;
};

/// connect(), start(), start_batch(), run_blocking(), run_until(), progress() and close() are called without a lock, as
/// thread_level() says; the rest, but abort() and awaited_peer(), under the group's mutex, so it must be quick.
class Transport : public std::enable_shared_from_this<Transport> {
 public:
  virtual ~Transport() = default;

  /// Asked when connected.
  virtual Capabilities capabilities() const { return {}; }

  /// Connects all ranks, on a native thread. Throws Failure. abort() from another thread makes it return soon, also when
  /// that came first.
  virtual void connect(Exchange& exchange) = 0;

  /// Throws Failure with C10D_ERR_INVALID or C10D_ERR_UNSUPPORTED if this op cannot be carried out.
  virtual void check(const Op& op) const = 0;

  /// Fixes what depends on the op's place in the order (a tag, say) in op.ticket. Called in the order of submission,
  /// after check().
  virtual void number(Op& op) noexcept = 0;

  enum class Start { done, pending, blocking };

  /// Begins an op: done or pending (then progress() finishes it), or `blocking` if run_blocking() is to be called.
  /// Does not block. Called in the order of submission, never by two threads at the same time.
  virtual Start start(Op&) { return Start::blocking; }

  /// Whether the ops of one submission are to be begun by one start_batch().
  virtual bool takes_batches() const { return false; }

  /// start() of several ops as one: none of them waits for another of them. Gives `done` or `pending` of each in `started`, which
  /// has `pending` in it. Throwing fails all of them.
  virtual void start_batch(const std::vector<Op*>& ops, std::vector<Start>& started) {
    (void)ops;
    (void)started;
  }

  /// Whether point-to-point ops start at submit; if not, they start in their order among the collectives.
  virtual bool messages_overtake() const { return true; }

  /// Whether start() does something that peers wait for, so that the host's thread had better do it itself than wake a
  /// worker for it first. Only where any number of threads may call the library.
  virtual bool starts_when_kicked() const { return false; }

  /// Carries out an op on this thread; when it returns or throws, the buffers are the host's again. Throws Failure or
  /// anything else derived from std::exception.
  virtual void run_blocking(Op&) {}

  /// The same for as long as the deadline allows; the op may then be carried out to its end by another thread. Returns
  /// whether it has ended.
  virtual bool run_until(Op&, Clock::time_point deadline) {
    (void)deadline;
    return false;
  }

  /// Drives the pending ops and appends those that have ended to `ended`, with op.failure set or, of a recv, op.source.
  /// Does not block; called by one thread at a time. Throwing fails the group. But a mismatch of a collective, see
  /// Failure::collective(), waits for those before it, so it may be thrown again while they go on.
  virtual void progress(std::vector<Op*>& ended) { (void)ended; }

  /// Whether the last progress() has brought an op nearer to its end, so that the next one should come soon.
  virtual bool advanced() const { return false; }

  /// Descriptor that becomes readable when progress() has something to do; -1 if the library has none.
  virtual int event_fd() { return -1; }

  /// Whether the op may begin only after all earlier collectives have ended.
  virtual bool fences(const Op& op) const { return op.request.opcode == C10D_OP_BARRIER; }

  /// Collectives that may be under way at the same time; asked once, when connected.
  virtual unsigned max_concurrency() const { return 1; }

  /// Whether there are streams, so that synchronize() can be asked for.
  virtual bool has_streams() const { return false; }

  /// Makes what is put into a stream from now on wait for an op that is pending. Called while other threads may be in start()
  /// or progress(), also for an op that progress() is just ending. Throws Failure.
  virtual void synchronize(Op& op, uint64_t stream) {
    (void)op;
    (void)stream;
  }

  /// Whether make_split() works.
  virtual bool can_split() const { return false; }

  /// The transport of a group of some of these ranks, those with the same color. Its connect(), on a thread of its own, does the
  /// library's split; until then nothing is under way here. What it needs of this one it keeps by shared_from_this(): the
  /// group of this one may be closed before.
  virtual std::shared_ptr<Transport> make_split(const Config& config, int32_t color) {
    (void)config;
    (void)color;
    return nullptr;
  }

  /// Where this process finds the memory of another rank in an open window, 0 if it cannot: see c10d_window_address.
  virtual uint64_t window_address(uint64_t address, int32_t rank) {
    (void)address;
    (void)rank;
    return 0;
  }

  /// A rank that the ops under way wait for, to be named when one of them runs out of time; -1 if unknown.
  virtual int awaited_peer() { return -1; }

  virtual ThreadLevel thread_level() const { return ThreadLevel::multiple; }

  /// Wakes everything that blocks in the library and makes all pending ops end, from any thread; at most once, and
  /// prompt. Ops begun later fail at once.
  virtual void abort(const Failure& cause) noexcept = 0;

  /// How long ops may stay in the library after abort() before their end is announced all the same; their buffers then stay
  /// borrowed. Little for a library that cannot cancel its ops.
  virtual std::chrono::milliseconds abort_grace() const { return std::chrono::milliseconds(1000); }

  /// Whether abort() can make the library, and peers that reach into this process through it, let go of all buffers. If
  /// not, ops of a host thread whose memory goes away before the process does work on copies.
  virtual bool abort_lets_go() const { return true; }

  /// Ends an open communicator that has nothing in flight.
  virtual void close() noexcept {}
};

/// Each shim defines these two. The second gives name and version of its library, which it loads if need be. Throws Failure with
/// C10D_ERR_UNAVAILABLE if that cannot be used here.
std::shared_ptr<Transport> make_transport(const Config& config);
std::string probe();

}  // namespace c10d
