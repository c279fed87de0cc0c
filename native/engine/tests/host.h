// The host's side of the ABI, as TypeScript would do it.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "c10d.h"
#include "fake_transport.h"
#include "tests/failure_view.h"

namespace c10d::test {

constexpr double kForever = std::numeric_limits<double>::infinity();

using Settings = std::vector<std::string>;

/// The ways in which a transport may carry out ops, and its thread levels: options of FakeTransport.
constexpr const char* kModels[] = {"model=blocking", "model=polling", "model=eventfd"};
constexpr const char* kLevels[] = {"level=multiple", "level=serialized", "level=funneled"};

/// What to submit.
struct Request {
  uint32_t tag = 0;
  double timeout_ms = kForever;
  c10d_opcode opcode = C10D_OP_ALLREDUCE;
  uint32_t flags = 0;
};

/// Keeps the buffers of its ops, and closes its group at the end, whatever that takes.
class Host {
 public:
  /// Creates a group of this transport, and waits until it is ready if `until_ready`.
  explicit Host(const Settings& settings, double connect_ms = kForever, bool until_ready = true, int world_size = 8);
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  c10d_group* group() const { return group_; }
  Journal& journal() const { return *journal_; }
  int wake_fd() const { return wake_fd_; }

  /// Id of the op or a negative status.
  int64_t submit(const Request& request);
  int64_t submit(uint32_t tag, double timeout_ms = kForever) { return submit(Request{tag, timeout_ms}); }
  /// Id of the first.
  int64_t submit_batch(const std::vector<Request>& requests);
  void kick() const { c10d_kick(group_); }
  int32_t wait(int64_t id, double timeout_ms = kForever, c10d_event* result = nullptr) const {
    return c10d_wait(group_, static_cast<uint64_t>(id), timeout_ms, result, sizeof *result);
  }
  /// What the op wrote; 0 before it did.
  uint64_t result(int64_t id) const { return slots_.at(static_cast<size_t>(id - 1)); }
  std::string error(int64_t id) const;
  std::string group_error() const;
  c10d_stats stats() const;

  /// Events that are queued now, without reading the socket.
  std::vector<c10d_event> drain() const;
  /// Whether a wake byte arrives within `ms`; reads it.
  bool awoken(int ms) const;
  /// Whether no event arrives within `ms`; one that does is kept for later calls.
  bool quiet(int ms);
  /// The next event of this kind and id (0 for any), sleeping on the socket like an event loop. Events before it are
  /// kept for later calls.
  std::optional<c10d_event> await(c10d_event_kind kind, int64_t id = 0, int ms = 10'000);
  /// The COMPLETE event of an op, which must arrive.
  c10d_event completion(int64_t id);

  /// c10d_close; the group is freed when it returns 0.
  int32_t close(double timeout_ms);

 private:
  c10d_group* group_ = nullptr;
  int wake_fd_ = -1;
  std::shared_ptr<Journal> journal_;
  std::deque<uint64_t> slots_;
  std::deque<c10d_event> kept_;
};

/// An op record without buffers.
c10d_op op_record(const Request& request);

/// Creates a group without any checks; NULL if it is refused.
c10d_group* create_group(const Settings& settings, double connect_ms = kForever, int world_size = 8);

/// Time since it was made, in milliseconds.
class Stopwatch {
 public:
  double ms() const { return std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }

 private:
  const Clock::time_point start_ = Clock::now();
};

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// Sanitizers and a busy machine: upper limits for times are this much wider.
constexpr double kSlack = kSanitized ? 30 : 10;

}  // namespace c10d::test
