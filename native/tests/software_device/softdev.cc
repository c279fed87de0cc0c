#include "software_device/softdev.h"

#include <algorithm>
#include <cstring>

#include "ops/failure.h"
#include "ops/op.h"
#include "software_device/machine.h"
#include "software_device/memory.h"
#include "software_device/transport.h"

using c10d::attempt;
using c10d::softdev::EventPtr;
using c10d::softdev::Machine;
using c10d::softdev::Memory;
using c10d::softdev::StreamPtr;

namespace {

/// Events by handle; nullptr if nothing was recorded.
class Events {
 public:
  uint64_t add(EventPtr event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    events_[++last_] = std::move(event);
    return last_;
  }
  bool set(uint64_t handle, EventPtr event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = events_.find(handle);
    if (found == events_.end()) return false;
    found->second = std::move(event);
    return true;
  }
  bool get(uint64_t handle, EventPtr& event) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = events_.find(handle);
    if (found == events_.end()) return false;
    event = found->second;
    return true;
  }
  bool remove(uint64_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return events_.erase(handle) > 0;
  }

 private:
  mutable std::mutex mutex_;
  std::map<uint64_t, EventPtr> events_;
  uint64_t last_ = 0;
} events;

Machine& machine() { return Machine::the(); }

template <class Work>
int32_t put(int32_t device, uint64_t stream, Work work) {
  const StreamPtr found = machine().find_stream(device, stream);
  if (found == nullptr) return -1;
  machine().put(*found, std::move(work));
  return 0;
}

}  // namespace

void softdev_set_seed(uint64_t seed, uint32_t longest_delay_us) {
  machine().set_seed(seed, std::chrono::microseconds(longest_delay_us));
}

uint64_t softdev_malloc(int32_t device, uint64_t bytes) {
  uint64_t address = 0;
  attempt([&] { address = Memory::all().allocate(device, bytes); });
  return address;
}

int32_t softdev_free(uint64_t address) {
  return attempt([&] { Memory::all().free(address); }) ? -1 : 0;
}

uint64_t softdev_blocks(void) { return Memory::all().blocks(); }

uint64_t softdev_stream_create(int32_t device) { return machine().open_stream(device); }

int32_t softdev_stream_destroy(int32_t device, uint64_t stream) {
  return machine().close_stream(device, stream) ? 0 : -1;
}

int32_t softdev_stream_synchronize(int32_t device, uint64_t stream, double timeout_ms) {
  const StreamPtr found = machine().find_stream(device, stream);
  if (found == nullptr) return -1;
  return machine().await(*machine().record(*found), c10d::deadline_after(timeout_ms)) ? 0 : -1;
}

int32_t softdev_copy_in(int32_t device, uint64_t stream, uint64_t to, const void* from, uint64_t bytes) {
  std::vector<uint8_t> taken(bytes);
  if (bytes > 0) std::memcpy(taken.data(), from, bytes);
  return put(device, stream, [to, taken = std::move(taken)] { Memory::all().write(to, taken.data(), taken.size()); });
}

int32_t softdev_copy_out(int32_t device, uint64_t stream, void* to, uint64_t from, uint64_t bytes) {
  const StreamPtr found = machine().find_stream(device, stream);
  if (found == nullptr) return -1;
  bool copied = false;
  machine().put(*found, [&] {
    Memory::all().read(from, to, bytes);
    copied = true;
  });
  machine().await(*machine().record(*found), c10d::Clock::time_point::max());
  return copied ? 0 : -1;
}

int32_t softdev_copy(int32_t device, uint64_t stream, uint64_t to, uint64_t from, uint64_t bytes) {
  return put(device, stream, [=] {
    std::vector<uint8_t> taken(bytes);
    Memory::all().read(from, taken.data(), bytes);
    Memory::all().write(to, taken.data(), bytes);
  });
}

int32_t softdev_fill(int32_t device, uint64_t stream, uint64_t to, uint8_t byte, uint64_t bytes) {
  return put(device, stream, [=] { Memory::all().fill(to, byte, bytes); });
}

uint64_t softdev_event_create(void) { return events.add(nullptr); }

int32_t softdev_event_record(uint64_t handle, int32_t device, uint64_t stream) {
  const StreamPtr found = machine().find_stream(device, stream);
  return found != nullptr && events.set(handle, machine().record(*found)) ? 0 : -1;
}

int32_t softdev_stream_wait_event(int32_t device, uint64_t stream, uint64_t handle) {
  const StreamPtr found = machine().find_stream(device, stream);
  EventPtr event;
  if (found == nullptr || !events.get(handle, event)) return -1;
  if (event != nullptr) machine().wait(*found, std::move(event));
  return 0;
}

int32_t softdev_event_query(uint64_t handle) {
  EventPtr event;
  if (!events.get(handle, event)) return -1;
  return event == nullptr || machine().is_complete(*event) ? 1 : 0;
}

int32_t softdev_event_destroy(uint64_t handle) { return events.remove(handle) ? 0 : -1; }

uint64_t softdev_hold(int32_t device, uint64_t stream) {
  const StreamPtr found = machine().find_stream(device, stream);
  if (found == nullptr) return 0;
  auto event = std::make_shared<c10d::softdev::Event>();
  machine().wait(*found, event);
  return events.add(std::move(event));
}

int32_t softdev_release(uint64_t hold) {
  EventPtr event;
  if (!events.get(hold, event) || event == nullptr) return -1;
  machine().complete(*event);
  events.remove(hold);
  return 0;
}

uint64_t softdev_faults(void) { return machine().faults(); }

int32_t softdev_last_fault(char* text, uint32_t capacity) {
  const std::string fault = machine().last_fault();
  std::copy_n(fault.data(), std::min<size_t>(fault.size(), capacity), text);
  return static_cast<int32_t>(fault.size());
}

void softdev_make_unavailable(const char* reason) { c10d::softdev::set_unavailable(reason == nullptr ? "" : reason); }
