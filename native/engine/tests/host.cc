#include "host.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

namespace c10d::test {

namespace {

/// Makes a buffer the op's only output, and of a send its input too: the fake transport writes a result for that as
/// well.
void give(c10d_op& op, const c10d_buffer& buffer) {
  op.outputs = reinterpret_cast<uint64_t>(&buffer);
  op.output_count = 1;
  if (op.opcode != C10D_OP_SEND) return;
  op.inputs = op.outputs;
  op.input_count = 1;
}

}  // namespace

c10d_group* create_group(const Settings& settings, double connect_ms, int world_size) {
  std::string options;
  for (const auto& setting : settings) options.append(setting).push_back('\0');
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = world_size;
  config.timeout_ms = connect_ms;
  config.options = reinterpret_cast<uint64_t>(options.data());
  config.options_bytes = options.size();
  return c10d_create(&config);
}

c10d_op op_record(const Request& request) {
  c10d_op op{};
  op.size = sizeof op;
  op.opcode = request.opcode;
  op.dtype = C10D_FLOAT32;
  op.peer = request.opcode == C10D_OP_RECV || request.opcode == C10D_OP_SEND ? 5 : -1;
  op.tag = request.tag;
  op.timeout_ms = request.timeout_ms;
  op.flags = request.flags;
  return op;
}

Host::Host(const Settings& settings, double connect_ms, bool until_ready, int world_size)
    : group_(create_group(settings, connect_ms, world_size)) {
  REQUIRE(group_ != nullptr);
  wake_fd_ = c10d_wake_fd(group_);
  journal_ = Journal::latest();
  if (!until_ready) return;
  const auto ready = await(C10D_EVENT_READY);
  REQUIRE(ready);
  REQUIRE(ready->status == C10D_OK);
}

Host::~Host() {
  if (group_ != nullptr) {
    journal_->open_all();
    CHECK(close(20'000) == 0);
  }
  ::close(wake_fd_);
}

int64_t Host::submit(const Request& request) {
  auto op = op_record(request);
  slots_.push_back(0);
  const c10d_buffer slot{reinterpret_cast<uint64_t>(&slots_.back()), sizeof slots_.back()};
  give(op, slot);
  const int64_t id = c10d_submit(group_, &op, 1);
  if (id < 0) slots_.pop_back();
  return id;
}

int64_t Host::submit_batch(const std::vector<Request>& requests) {
  std::vector<c10d_op> ops;
  std::vector<c10d_buffer> slots;
  slots.reserve(requests.size());
  for (const auto& request : requests) {
    slots_.push_back(0);
    slots.push_back({reinterpret_cast<uint64_t>(&slots_.back()), sizeof slots_.back()});
    ops.push_back(op_record(request));
    give(ops.back(), slots.back());
  }
  const int64_t id = c10d_submit(group_, ops.data(), static_cast<uint32_t>(ops.size()));
  if (id < 0) slots_.resize(slots_.size() - requests.size());
  return id;
}

std::string Host::error(int64_t id) const { return take_failure(group_, static_cast<uint64_t>(id)).text; }

std::string Host::group_error() const { return take_failure(group_, 0).text; }

c10d_stats Host::stats() const {
  c10d_stats stats{};
  c10d_group_stats(group_, &stats, sizeof stats);
  return stats;
}

std::vector<c10d_event> Host::drain() const {
  std::vector<c10d_event> all;
  c10d_event some[7];
  for (;;) {
    const auto count = c10d_drain(group_, some, sizeof some[0], 7);
    REQUIRE(count >= 0);
    all.insert(all.end(), some, some + count);
    if (count < 7) return all;
  }
}

bool Host::awoken(int ms) const {
  pollfd source{wake_fd_, POLLIN, 0};
  if (::poll(&source, 1, ms) <= 0) return false;
  char bytes[64];
  return ::read(wake_fd_, bytes, sizeof bytes) > 0;
}

bool Host::quiet(int ms) {
  const Stopwatch watch;
  for (double left = ms; left > 0; left = ms - watch.ms()) {
    if (!awoken(static_cast<int>(left) + 1)) continue;
    const auto events = drain();
    kept_.insert(kept_.end(), events.begin(), events.end());
    if (!events.empty()) return false;
  }
  return true;
}

std::optional<c10d_event> Host::await(c10d_event_kind kind, int64_t id, int ms) {
  const Stopwatch watch;
  for (;;) {
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const c10d_event& event) {
      return event.kind == static_cast<uint32_t>(kind) && (id == 0 || event.id == static_cast<uint64_t>(id));
    });
    if (found != kept_.end()) {
      const auto event = *found;
      kept_.erase(found);
      return event;
    }
    const double left = ms - watch.ms();
    // The socket only: an event without its wake byte is a fault of the engine.
    if (left <= 0 || !awoken(static_cast<int>(left) + 1)) return std::nullopt;
    for (const auto& event : drain()) kept_.push_back(event);
  }
}

c10d_event Host::completion(int64_t id) {
  const auto event = await(C10D_EVENT_COMPLETE, id);
  REQUIRE(event);
  return *event;
}

int32_t Host::close(double timeout_ms) {
  const auto left = c10d_close(group_, timeout_ms);
  if (left == 0) group_ = nullptr;
  return left;
}

}  // namespace c10d::test
