// The exported C symbols over Group. No exception leaves these functions.
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "c10d.h"
#include "engine/group.h"
#include "ops/sized_struct.h"

struct c10d_group {
  c10d::Group group;
  bool kept = false;
  c10d_group* next_kept = nullptr;

  c10d_group(std::shared_ptr<c10d::Transport> transport, const c10d::Config& config)
      : group(std::move(transport), config) {}
};

namespace {

thread_local std::optional<c10d::Failure> last_failure;

/// Groups that were closed while their threads were still inside the library: their memory must stay valid.
class KeptGroups {
 public:
  void add(c10d_group* group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(group->kept, true)) return;
    group->next_kept = std::exchange(first_, group);
  }
  void remove(c10d_group* group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!std::exchange(group->kept, false)) return;
    c10d_group** at = &first_;
    while (*at != group) at = &(*at)->next_kept;
    *at = group->next_kept;
  }

 private:
  std::mutex mutex_;
  c10d_group* first_ = nullptr;
} kept_groups;

/// Runs `body`; an exception becomes the last failure of this thread, and a status.
template <class Body>
int64_t guarded(Body body) noexcept {
  int64_t result = C10D_OK;
  auto failure = c10d::attempt([&] { result = body(); });
  if (!failure) return result;
  last_failure = std::move(failure);
  return last_failure->status();
}

/// The smallest c10d_event: kind, status and id.
constexpr uint32_t kSmallestEvent = 16;

void require_event(uint32_t size) {
  if (size >= kSmallestEvent && size % 8 == 0 && size <= c10d::kLargestStruct) return;
  throw c10d::Failure(C10D_ERR_INVALID, "a c10d_event cannot have a size of " + std::to_string(size));
}

uint32_t copy_text(const std::string& text, char* to, uint32_t capacity) {
  const auto bytes = std::min<size_t>(text.size(), capacity);
  if (bytes > 0) std::memcpy(to, text.data(), bytes);
  return static_cast<uint32_t>(bytes);
}

/// The caller's tables for a failure. Throws Failure if they cannot be written to.
c10d_failure read_failure(const c10d_failure* to) {
  const auto given = c10d::read_struct(to, c10d::claimed_size(to, "c10d_failure"), "c10d_failure");
  if ((given.rank_capacity > 0 && given.ranks == 0) || (given.text_capacity > 0 && given.text == 0)) {
    throw c10d::Failure(C10D_ERR_INVALID, "c10d_failure has a table that is NULL");
  }
  return given;
}

int32_t copy_failure(const std::optional<c10d::Failure>& failure, c10d_failure* to) {
  return static_cast<int32_t>(guarded([&]() -> int64_t {
    auto given = read_failure(to);
    const uint32_t size = given.size;
    given.status = failure ? failure->status() : C10D_OK;
    given.mismatch = failure ? failure->mismatch() : C10D_MISMATCH_NONE;
    given.system_error = failure ? failure->system_error() : 0;
    given.device_error = failure ? failure->device_error() : 0;
    given.peer = failure ? failure->peer() : -1;
    static const std::vector<int32_t> none;
    const auto& ranks = failure ? failure->ranks() : none;
    given.rank_count = static_cast<uint32_t>(ranks.size());
    std::copy_n(ranks.begin(), std::min(given.rank_count, given.rank_capacity),
                reinterpret_cast<int32_t*>(given.ranks));
    given.text_bytes =
        copy_text(failure ? failure->text() : "", reinterpret_cast<char*>(given.text), given.text_capacity);
    c10d::write_struct(given, to, size);
    return given.status;
  }));
}

c10d::Config config_of(const c10d_config& config) {
  if (config.world_size < 1 || config.rank < 0 || config.rank >= config.world_size) {
    throw c10d::Failure(C10D_ERR_INVALID, "rank must be in 0..world_size-1");
  }
  if (!(config.timeout_ms >= 0)) throw c10d::Failure(C10D_ERR_INVALID, "timeout_ms must not be negative");
  if (config.options == 0 && config.options_bytes > 0) throw c10d::Failure(C10D_ERR_INVALID, "options are NULL");
  return {config.rank, config.world_size, c10d::Device{config.device_type, config.device_index},
          c10d::deadline_of_limit(config.timeout_ms),
          c10d::Options(reinterpret_cast<const char*>(config.options), config.options_bytes)};
}

}  // namespace

uint32_t c10d_abi_version(void) { return C10D_ABI_VERSION; }

int32_t c10d_probe(char* version, uint32_t capacity) {
  return static_cast<int32_t>(guarded([&]() -> int64_t { return copy_text(c10d::probe(), version, capacity); }));
}

int32_t c10d_last_failure(c10d_failure* failure) { return copy_failure(last_failure, failure); }

uint64_t c10d_clock_ns(void) { return c10d::nanoseconds_of(c10d::Clock::now()); }

c10d_group* c10d_create(const c10d_config* config) {
  c10d_group* made = nullptr;
  guarded([&]() -> int64_t {
    const auto known = c10d::read_struct(config, c10d::claimed_size(config, "c10d_config"), "c10d_config");
    const auto parsed = config_of(known);
    made = std::make_unique<c10d_group>(c10d::make_transport(parsed), parsed).release();
    return C10D_OK;
  });
  return made;
}

c10d_group* c10d_split(c10d_group* parent, const c10d_config* config) {
  c10d_group* made = nullptr;
  guarded([&]() -> int64_t {
    const auto known = c10d::read_struct(config, c10d::claimed_size(config, "c10d_config"), "c10d_config");
    const auto parsed = config_of(known);
    made = std::make_unique<c10d_group>(parent->group.split(parsed, known.color), parsed).release();
    return C10D_OK;
  });
  return made;
}

void c10d_group_capabilities(c10d_group* group, c10d_capabilities* capabilities, uint32_t size) {
  guarded([&]() -> int64_t {
    c10d::write_struct(group->group.capabilities(), capabilities, size);
    return C10D_OK;
  });
}

int32_t c10d_wake_fd(c10d_group* group) { return group->group.wake_fd(); }

int32_t c10d_drain(c10d_group* group, c10d_event* events, uint32_t size, uint32_t max) {
  return static_cast<int32_t>(guarded([&]() -> int64_t {
    require_event(size);
    return group->group.drain(events, size, max);
  }));
}

int32_t c10d_exchange_read(c10d_group* group, uint64_t id, void* key, uint32_t key_capacity, void* value,
                           uint32_t value_capacity) {
  return static_cast<int32_t>(
      guarded([&] { return group->group.read_exchange(id, key, key_capacity, value, value_capacity); }));
}

int32_t c10d_exchange_reply(c10d_group* group, uint64_t id, int32_t status, const void* data, uint32_t bytes) {
  return static_cast<int32_t>(guarded([&] { return group->group.reply_exchange(id, status, data, bytes); }));
}

int64_t c10d_submit(c10d_group* group, const c10d_op* ops, uint32_t count) {
  return guarded([&] { return static_cast<int64_t>(group->group.submit(ops, count, nullptr, nullptr)); });
}

int64_t c10d_submit_one(c10d_group* group, const c10d_op* op, const void* input, void* output) {
  return guarded([&] { return static_cast<int64_t>(group->group.submit(op, 1, input, output)); });
}

void c10d_skip_turn(c10d_group* group) {
  guarded([&]() -> int64_t {
    group->group.skip_turn();
    return C10D_OK;
  });
}

void c10d_kick(c10d_group* group) {
  guarded([&]() -> int64_t {
    group->group.kick();
    return C10D_OK;
  });
}

int32_t c10d_wait(c10d_group* group, uint64_t id, double timeout_ms, c10d_event* result, uint32_t size) {
  return static_cast<int32_t>(guarded([&]() -> int64_t {
    if (result != nullptr) require_event(size);
    c10d_event event{};
    const int32_t status = group->group.wait(id, timeout_ms, event);
    // Otherwise there is no result.
    if (result != nullptr && event.kind != 0) c10d::write_struct(event, result, size);
    return status;
  }));
}

int32_t c10d_synchronize(c10d_group* group, uint64_t id, uint64_t stream, double timeout_ms) {
  return static_cast<int32_t>(guarded([&]() -> int64_t { return group->group.synchronize(id, stream, timeout_ms); }));
}

int32_t c10d_op_started(c10d_group* group, uint64_t id) {
  return static_cast<int32_t>(guarded([&]() -> int64_t { return group->group.has_started(id) ? 1 : 0; }));
}

int32_t c10d_take_failure(c10d_group* group, uint64_t id, c10d_failure* failure) {
  std::optional<c10d::Failure> taken;
  const int64_t refused = guarded([&]() -> int64_t {
    // First: a failure that is taken but cannot be copied is lost.
    read_failure(failure);
    taken = group->group.take_failure(id);
    return C10D_OK;
  });
  return refused != C10D_OK ? static_cast<int32_t>(refused) : copy_failure(taken, failure);
}

uint64_t c10d_window_address(c10d_group* group, uint64_t address, int32_t rank) {
  uint64_t found = 0;
  guarded([&]() -> int64_t {
    found = group->group.window_address(address, rank);
    return C10D_OK;
  });
  return found;
}

int32_t c10d_group_state(c10d_group* group) {
  return static_cast<int32_t>(guarded([&] { return group->group.state(); }));
}

void c10d_abort(c10d_group* group, int32_t status, const char* reason) {
  guarded([&]() -> int64_t {
    group->group.abort(status, reason == nullptr ? "aborted" : reason);
    return C10D_OK;
  });
}

void c10d_group_stats(c10d_group* group, c10d_stats* stats, uint32_t size) {
  guarded([&]() -> int64_t {
    c10d::write_struct(group->group.stats(), stats, size);
    return C10D_OK;
  });
}

int32_t c10d_close(c10d_group* group, double timeout_ms) {
  return static_cast<int32_t>(guarded([&]() -> int64_t {
    int32_t still_running = 0;
    if (!group->group.close(timeout_ms, still_running)) {
      kept_groups.add(group);
      return std::max(still_running, 1);
    }
    kept_groups.remove(group);
    const std::unique_ptr<c10d_group> last(group);
    return 0;
  }));
}
