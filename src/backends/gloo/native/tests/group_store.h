// A store for groups whose ranks are threads of this process, and what the host does to connect such a group.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "c10d.h"

namespace c10d::test {

/// The store of one group.
class GroupStore {
 public:
  void set(const std::string& key, std::vector<char> value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    values_[key] = std::move(value);
  }
  bool get(const std::string& key, std::vector<char>& value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = values_.find(key);
    if (found == values_.end()) return false;
    value = found->second;
    return true;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<char>> values_;
};

/// Serves the store until the group is connected, and returns the status.
inline int32_t connect(c10d_group* group, int wake_fd, GroupStore& store) {
  std::map<uint64_t, std::string> asked;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < deadline) {
    pollfd source{wake_fd, POLLIN, 0};
    char bytes[64];
    if (::poll(&source, 1, 2) > 0) {
      [[maybe_unused]] const auto got = ::read(wake_fd, bytes, sizeof bytes);
    }
    c10d_event events[16];
    const int32_t count = c10d_drain(group, events, sizeof events[0], 16);
    for (int32_t i = 0; i < count; i++) {
      const auto& event = events[i];
      if (event.kind == C10D_EVENT_READY) return event.status;
      if (event.kind != C10D_EVENT_STORE_SET && event.kind != C10D_EVENT_STORE_GET) continue;
      std::string key(event.key_bytes, '\0');
      std::vector<char> value(event.value_bytes);
      c10d_exchange_read(group, event.id, key.data(), event.key_bytes, value.data(), event.value_bytes);
      if (event.kind == C10D_EVENT_STORE_GET) {
        asked[event.id] = key;
      } else {
        store.set(key, value);
        c10d_exchange_reply(group, event.id, C10D_OK, nullptr, 0);
      }
    }
    for (auto it = asked.begin(); it != asked.end();) {
      std::vector<char> value;
      if (!store.get(it->second, value)) {
        ++it;
        continue;
      }
      c10d_exchange_reply(group, it->first, C10D_OK, value.data(), static_cast<uint32_t>(value.size()));
      it = asked.erase(it);
    }
  }
  return C10D_ERR_OP_TIMEOUT;
}

}  // namespace c10d::test
