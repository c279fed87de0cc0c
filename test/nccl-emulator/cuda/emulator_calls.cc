// What other parts of the emulator, and tests, call: cuda_emulator.h.
#include <utility>

#include "calls.h"
#include "config.h"
#include "cuda_emulator.h"
#include "faults.h"

using cuemu::Device;
using cuemu::Item;
using cuemu::StreamPtr;
using cuemu::World;

namespace {

/// What this thread has declared for the next piece of work.
thread_local std::vector<std::pair<CUdeviceptr, size_t>> declared;

/// Work of others. It owns its data once it is in a stream.
class Task {
 public:
  Task(cuemu_work work, void (*free_data)(void*), void* data) : work_(work), free_data_(free_data), data_(data) {}
  ~Task() {
    if (owns_ && free_data_ != nullptr) free_data_(data_);
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  void own() { owns_ = true; }
  int run() const { return work_(data_); }

 private:
  const cuemu_work work_;
  void (*const free_data_)(void*);
  void* const data_;
  bool owns_ = false;
};

/// The same as find_stream, and the stream belongs to the device.
CUresult find_own_stream(const char* call, Device& device, CUstream handle, StreamPtr& stream) {
  const CUresult error = cuemu::find_stream(call, device, handle, stream);
  if (error != CUDA_SUCCESS || &stream->device == &device) return error;
  return cuemu::fault(CUDA_ERROR_INVALID_HANDLE, "%s: a stream of device %d is used for device %d", call,
                      stream->device.index, device.index);
}

uint64_t count_blocks(bool pinned) {
  World& world = World::the();
  const World::Lock lock(world.mutex);
  uint64_t count = 0;
  for (const auto& [address, block] : world.blocks) count += block->pinned == pinned ? 1 : 0;
  return count;
}

}  // namespace

extern "C" {

CUresult cuemu_enqueue(int index, CUstream handle, const char* what, cuemu_work run, void (*free_data)(void*),
                       void* data) {
  World& world = World::the();
  Device* const device = world.device(index);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  if (!device->active) return CUDA_ERROR_INVALID_CONTEXT;
  const CUresult broken = device->error;
  if (broken != CUDA_SUCCESS) return broken;
  const auto uses = std::exchange(declared, {});
  if (cuemu::config().null_mode && cuemu::is_stream(handle)) {
    const CUresult result = run(data);
    if (free_data != nullptr) free_data(data);
    if (result != CUDA_SUCCESS) cuemu_break(index, result);
    return CUDA_SUCCESS;
  }
  return cuemu::guarded([&]() -> CUresult {
    const World::Lock lock(world.mutex);
    StreamPtr stream;
    const CUresult error = find_own_stream(what, *device, handle, stream);
    if (error != CUDA_SUCCESS) return error;
    Item item;
    item.what = what;
    for (const auto& [address, bytes] : uses) {
      if (auto block = world.block_at(address, bytes)) item.uses.push_back(std::move(block));
    }
    const auto task = std::make_shared<Task>(run, free_data, data);
    item.work = [task] { return task->run(); };
    stream->put(std::move(item));
    task->own();
    return CUDA_SUCCESS;
  });
}

void cuemu_uses(CUdeviceptr address, size_t bytes) {
  if (!cuemu::config().null_mode) declared.emplace_back(address, bytes);
}

void* cuemu_alias(int device, CUdeviceptr address, size_t bytes) {
  const World::Lock lock(World::the().mutex);
  const auto block = World::the().block_at(address, bytes);
  if (block == nullptr || block->pinned || block->device != device) return nullptr;
  return block->alias + (address - block->address);
}

uint64_t cuemu_register(CUdeviceptr address, size_t bytes, const char* what) {
  static uint64_t last = 0;
  World& world = World::the();
  const World::Lock lock(world.mutex);
  auto block = world.block_at(address, bytes);
  if (block == nullptr) return 0;
  world.registered[++last] = {std::move(block), what};
  return last;
}

void cuemu_deregister(uint64_t registration) {
  World& world = World::the();
  const World::Lock lock(world.mutex);
  world.registered.erase(registration);
}

int cuemu_device_of(CUdeviceptr address) {
  const World::Lock lock(World::the().mutex);
  const auto block = World::the().block_at(address, 1);
  return block == nullptr || block->pinned ? -1 : block->device;
}

int cuemu_stream_device(CUstream handle) {
  if (reinterpret_cast<uint64_t>(handle) <= 2) return cuemu_current_device();
  const World::Lock lock(World::the().mutex);
  const auto stream = World::the().streams.find(reinterpret_cast<uint64_t>(handle));
  return stream == nullptr ? -1 : stream->device.index;
}

int cuemu_current_device() { return cuemu::current >= 0 ? cuemu::current : -1; }

uint64_t cuemu_blocks() { return count_blocks(false); }
uint64_t cuemu_pinned_blocks() { return count_blocks(true); }

uint64_t cuemu_streams() {
  const World::Lock lock(World::the().mutex);
  return World::the().streams.count();
}

uint64_t cuemu_streams_of(int index, int priority) {
  const World::Lock lock(World::the().mutex);
  const Device* device = World::the().device(index);
  if (device == nullptr) return 0;
  uint64_t count = 0;
  for (const auto& stream : device->streams()) {
    count += stream->handle != 0 && !stream->is_closed() && stream->priority == priority ? 1 : 0;
  }
  return count;
}

uint64_t cuemu_events() {
  const World::Lock lock(World::the().mutex);
  return World::the().events.count();
}

uint64_t cuemu_hold(int index, CUstream handle) {
  static uint64_t last = 0;
  World& world = World::the();
  Device* const device = world.device(index);
  if (device == nullptr || !device->active || cuemu::config().null_mode) return 0;
  const World::Lock lock(world.mutex);
  StreamPtr stream;
  if (find_own_stream("cuemu_hold", *device, handle, stream) != CUDA_SUCCESS) return 0;
  Item item;
  item.what = "cuemu_hold";
  item.waits.push_back(world.holds[++last] = std::make_shared<cuemu::Point>());
  stream->put(std::move(item));
  return last;
}

int32_t cuemu_release(uint64_t hold) {
  World& world = World::the();
  const World::Lock lock(world.mutex);
  const auto found = world.holds.find(hold);
  if (found == world.holds.end()) return -1;
  complete(*found->second);
  world.holds.erase(found);
  return 0;
}

void cuemu_break(int index, CUresult error) {
  World& world = World::the();
  Device* const device = world.device(index);
  const World::Lock lock(world.mutex);
  if (device != nullptr) device->fail(error);
}

CUresult cuemu_broken(int index) {
  const Device* const device = World::the().device(index);
  return device == nullptr ? CUDA_ERROR_INVALID_DEVICE : device->error.load();
}

}  // extern "C"
