// The exported C symbols over Group. Nothing gets past these functions but plain values.
#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "c10d.h"
#include "engine/group.h"

struct c10d_group {
  c10d::Group group;
  bool kept = false;
  c10d_group* next_kept = nullptr;

  c10d_group(std::unique_ptr<c10d::Transport> transport, const c10d::Config& config)
      : group(std::move(transport), config) {}
};

namespace {

thread_local std::string last_error;

/// Groups that were closed while their threads were still inside the library: their memory has to stay.
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

/// Runs `body`; an exception becomes `last_error` and a status.
template <class Body>
int64_t guarded(Body body) noexcept {
  try {
    return body();
  } catch (const c10d::Failure& error) {
    last_error = error.text();
    return error.status();
  } catch (const std::exception& error) {
    last_error = error.what();
    return C10D_ERR_BACKEND;
  } catch (...) {
    last_error = "unknown native exception";
    return C10D_ERR_BACKEND;
  }
}

uint32_t copy_text(const std::string& text, char* to, uint32_t capacity) {
  const auto bytes = std::min<size_t>(text.size(), capacity);
  if (bytes > 0) std::memcpy(to, text.data(), bytes);
  return static_cast<uint32_t>(bytes);
}

}  // namespace

uint32_t c10d_abi_version(void) { return C10D_ABI_VERSION; }

const char* c10d_library_version(void) { return c10d::library_version(); }

const char* c10d_last_error(void) { return last_error.c_str(); }

c10d_group* c10d_create(const c10d_config* config) {
  c10d_group* made = nullptr;
  guarded([&]() -> int64_t {
    if (config == nullptr || config->size != sizeof(c10d_config)) {
      throw c10d::Failure(C10D_ERR_INVALID, "c10d_config has another size: ABI mismatch");
    }
    if (config->world_size < 1 || config->rank < 0 || config->rank >= config->world_size) {
      throw c10d::Failure(C10D_ERR_INVALID, "rank must be in 0..world_size-1");
    }
    if (!(config->timeout_ms >= 0)) throw c10d::Failure(C10D_ERR_INVALID, "timeout_ms must not be negative");
    if (config->options == 0 && config->options_bytes > 0) {
      throw c10d::Failure(C10D_ERR_INVALID, "options are NULL");
    }
    const c10d::Config parsed{config->rank, config->world_size, config->device,
                              c10d::deadline_after(config->timeout_ms),
                              c10d::Options(reinterpret_cast<const char*>(config->options), config->options_bytes)};
    made = std::make_unique<c10d_group>(c10d::make_transport(parsed), parsed).release();
    return C10D_OK;
  });
  return made;
}

int32_t c10d_wake_fd(c10d_group* group) { return group->group.wake_fd(); }

uint32_t c10d_drain(c10d_group* group, c10d_event* events, uint32_t max) {
  return static_cast<uint32_t>(std::max<int64_t>(0, guarded([&] { return group->group.drain(events, max); })));
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

int32_t c10d_wait(c10d_group* group, uint64_t id, double timeout_ms, c10d_event* result) {
  return static_cast<int32_t>(guarded([&] { return group->group.wait(id, timeout_ms, result); }));
}

uint32_t c10d_error(c10d_group* group, uint64_t id, char* text, uint32_t capacity) {
  return static_cast<uint32_t>(
      std::max<int64_t>(0, guarded([&] { return copy_text(group->group.take_error(id), text, capacity); })));
}

uint32_t c10d_group_error(c10d_group* group, char* text, uint32_t capacity) {
  return static_cast<uint32_t>(
      std::max<int64_t>(0, guarded([&] { return copy_text(group->group.group_error(), text, capacity); })));
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

void c10d_group_stats(c10d_group* group, c10d_stats* stats) {
  guarded([&]() -> int64_t {
    *stats = group->group.stats();
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
