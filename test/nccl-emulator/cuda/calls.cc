#include "calls.h"

#include <map>

#include "config.h"
#include "faults.h"

namespace cuemu {

std::atomic<State> state{State::none};
thread_local int current = no_device;

namespace {

/// Streams of a thread by device: what CU_STREAM_PER_THREAD means. They end with the thread.
struct OwnStreams {
  std::map<int, StreamPtr> by_device;
  ~OwnStreams() {
    if (state.load() != State::initialized) return;
    const World::Lock lock(World::the().mutex);
    for (const auto& [device, stream] : by_device) stream->close();
  }
};
thread_local OwnStreams own_streams;

StreamPtr own_stream(Device& device) {
  auto& stream = own_streams.by_device[device.index];
  if (stream == nullptr || stream->is_closed()) stream = device.open_stream(Stream::Kind::blocking, 0);
  return stream;
}

}  // namespace

CUresult check_thread(const char* call) {
  if (state.load(std::memory_order_acquire) != State::initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (current == on_stream) return fault(CUDA_ERROR_NOT_PERMITTED, "%s: called by work of a stream", call);
  return CUDA_SUCCESS;
}

CUresult check_context(const char* call, Device*& device) {
  const CUresult error = check_thread(call);
  if (error != CUDA_SUCCESS) return error;
  if (current == no_device) return CUDA_ERROR_INVALID_CONTEXT;
  device = World::the().device(current);
  if (!device->active.load(std::memory_order_acquire)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return device->error.load(std::memory_order_acquire);
}

CUresult find_stream(const char* call, Device& device, CUstream handle, StreamPtr& stream) {
  if (handle == nullptr || handle == CU_STREAM_LEGACY) {
    stream = device.legacy();
    if (stream == nullptr) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  } else if (handle == CU_STREAM_PER_THREAD) {
    stream = own_stream(device);
  } else {
    stream = World::the().streams.find(reinterpret_cast<uint64_t>(handle));
    if (stream == nullptr) {
      return fault(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no stream, or it was destroyed", call,
                   static_cast<void*>(handle));
    }
  }
  return stream->device.error;
}

CUresult find_event(const char* call, CUevent handle, EventPtr& event) {
  event = World::the().events.find(reinterpret_cast<uint64_t>(handle));
  if (event == nullptr) {
    return fault(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no event, or it was destroyed", call,
                 static_cast<void*>(handle));
  }
  return event->device.error;
}

bool is_stream(CUstream handle) {
  const auto number = reinterpret_cast<uint64_t>(handle);
  return number <= 2 || World::the().streams.has(number);
}

bool is_event(CUevent handle) { return World::the().events.has(reinterpret_cast<uint64_t>(handle)); }

}  // namespace cuemu
