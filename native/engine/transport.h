// What a shim implements: one communicator of a native library, without threads, queues or time-outs of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/failure.h"
#include "engine/op.h"

namespace c10d {

/// What the group does for its transport: it serves the host's store, for connect() only, and is notified of losses.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// Stores a value. Throws Failure.
  virtual void set(const std::string& key, const void* value, size_t bytes) = 0;
  /// Asks for a value, to be taken by await(); so several can be under way at once.
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
  int32_t device;
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

/// connect(), start(), run_blocking(), run_until(), progress() and close() are called without a lock, as thread_level() says; the rest,
/// but abort() and awaited_peer(), under the group's mutex, so it must be quick.
class Transport {
 public:
  virtual ~Transport() = default;

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
  /// Does not block. Called in the order of submission, never by two threads at the same time; point-to-point ops do not
  /// wait for collectives.
  virtual Start start(Op&) { return Start::blocking; }

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

  /// Drives the pending ops and appends those that have ended to `ended`, with op.status, op.peer and op.error set.
  /// Does not block; called by one thread at a time. Throwing fails the group.
  virtual void progress(std::vector<Op*>& ended) { (void)ended; }

  /// Whether the last progress() has brought an op nearer to its end, so that the next one should come soon.
  virtual bool advanced() const { return false; }

  /// Descriptor that becomes readable when progress() has something to do; -1 if the library has none.
  virtual int event_fd() { return -1; }

  /// Whether the op may begin only after all earlier collectives have ended.
  virtual bool fences(const Op& op) const { return op.request.opcode == C10D_OP_BARRIER; }

  /// Collectives that may be under way at the same time; asked once, when connected.
  virtual unsigned max_concurrency() const { return 1; }

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

/// Each shim defines these two.
std::unique_ptr<Transport> make_transport(const Config& config);
const char* library_version();

}  // namespace c10d
