// The store, as a transport uses it: requests to the host, and its replies.
#include <cstring>
#include <utility>

#include "engine/group_guard.h"

namespace c10d {

uint64_t Group::post_exchange(c10d_event_kind kind, const std::string& key, const void* value, size_t bytes) {
  const uint64_t id = next_exchange_++;
  const auto* from = static_cast<const char*>(value);
  exchange_[id] = {kind, key, std::vector<char>(from, from + bytes)};
  c10d_event event{};
  event.kind = kind;
  event.id = id;
  event.peer = -1;
  event.key_bytes = static_cast<uint32_t>(key.size());
  event.value_bytes = static_cast<uint32_t>(bytes);
  events_.push(event);
  return id;
}

void Group::set(const std::string& key, const void* value, size_t bytes) {
  uint64_t id = 0;
  {
    Guard guard(*this);
    if (cause_) throw *cause_;
    id = post_exchange(C10D_EVENT_STORE_SET, key, value, bytes);
  }
  await(id, config_.connect_deadline);
}

uint64_t Group::request(const std::string& key) {
  Guard guard(*this);
  if (cause_) throw *cause_;
  return post_exchange(C10D_EVENT_STORE_GET, key, nullptr, 0);
}

std::vector<char> Group::await(uint64_t request, Clock::time_point deadline) {
  Guard guard(*this);
  auto& record = exchange_.at(request);
  while (!record.answered) {
    if (cause_) throw *cause_;
    if (Clock::now() >= deadline) {
      throw Failure(C10D_ERR_OP_TIMEOUT, "timed out waiting for store key " + record.key);
    }
    guard.wait_until(answered_, deadline);
  }
  const int32_t status = record.status;
  std::vector<char> value = std::move(record.value);
  const std::string key = std::move(record.key);
  exchange_.erase(request);
  if (status != C10D_OK) {
    throw Failure(status, "store key " + key + ": " + std::string(value.begin(), value.end()));
  }
  return value;
}

void Group::log(const std::string& text) {
  Guard guard(*this);
  if (!cause_) post_exchange(C10D_EVENT_LOG, text, nullptr, 0);
}

int32_t Group::read_exchange(uint64_t id, void* key, uint32_t key_capacity, void* value, uint32_t value_capacity) {
  Guard guard(*this);
  const auto found = exchange_.find(id);
  if (found == exchange_.end() || found->second.answered) return C10D_ERR_INVALID;
  const auto& record = found->second;
  if (record.key.size() > key_capacity || record.value.size() > value_capacity) return C10D_ERR_INVALID;
  if (!record.key.empty()) std::memcpy(key, record.key.data(), record.key.size());
  if (!record.value.empty()) std::memcpy(value, record.value.data(), record.value.size());
  // A log message has no reply.
  if (record.kind == C10D_EVENT_LOG) exchange_.erase(found);
  return C10D_OK;
}

int32_t Group::reply_exchange(uint64_t id, int32_t status, const void* data, uint32_t bytes) {
  if (status > C10D_OK || (data == nullptr && bytes > 0)) return C10D_ERR_INVALID;
  Guard guard(*this);
  const auto found = exchange_.find(id);
  if (found == exchange_.end()) return C10D_ERR_INVALID;
  auto& record = found->second;
  if (record.answered || record.kind == C10D_EVENT_LOG) return C10D_ERR_INVALID;
  const auto* from = static_cast<const char*>(data);
  record.value.assign(from, from + bytes);
  record.status = status;
  record.answered = true;
  answered_.notify_all();
  return C10D_OK;
}

}  // namespace c10d
