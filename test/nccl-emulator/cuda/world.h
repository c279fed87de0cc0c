// What there is once in a process.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "block.h"
#include "device.h"
#include "event.h"
#include "handle_table.h"
#include "stream.h"

namespace cuemu {

/// Memory that a library has registered, and as what.
struct Registration {
  BlockPtr block;
  std::string what;
};

/// It is never destroyed: threads of streams run until the process ends.
class World {
 public:
  using Lock = std::unique_lock<std::mutex>;
  static World& the();

  std::mutex mutex;
  std::vector<std::unique_ptr<Device>> devices;
  HandleTable<Stream, 1> streams;
  HandleTable<Event, 2> events;
  /// Allocations by address.
  std::map<uint64_t, BlockPtr> blocks;
  /// What cuemu_hold has put, by its number.
  std::map<uint64_t, PointPtr> holds;
  /// What libraries have registered.
  std::map<uint64_t, Registration> registered;

  /// nullptr: there is none.
  Device* device(int index);
  /// The device that has this address, allocated or not.
  Device* device_at(uint64_t address);
  /// The allocation that has the whole range.
  BlockPtr block_at(uint64_t address, size_t bytes);

  /// Notifies the threads that wait in await().
  void notify() { advanced_.notify_all(); }
  /// Takes an allocation from the program: waits for work that uses it, for a limited time.
  void free(Lock& lock, const char* call, const BlockPtr& block);
  /// Waits until all points are complete, or the device is broken: then returns its error.
  CUresult await(Lock& lock, const Device& device, const Points& points);
  /// Waits until the condition holds; false when the time is over.
  template <class Condition>
  bool await_for(Lock& lock, std::chrono::milliseconds limit, Condition condition) {
    return advanced_.wait_for(lock, limit, condition);
  }

 private:
  World();
  std::condition_variable advanced_;  // a point is complete, work has ended, or a device is broken
};

}  // namespace cuemu
