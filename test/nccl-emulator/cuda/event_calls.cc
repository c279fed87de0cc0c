// Calls of the driver about events.
#include <chrono>
#include <utility>

#include "calls.h"
#include "config.h"
#include "faults.h"

using cuemu::Device;
using cuemu::Event;
using cuemu::EventPtr;
using cuemu::Item;
using cuemu::World;

namespace {

/// Whether null mode has the answer already: all is complete.
bool is_done(CUevent handle) { return cuemu::config().null_mode && cuemu::is_event(handle); }

CUresult done(const char* call) {
  return cuemu::in_context(call, [](const Device&) { return CUDA_SUCCESS; });
}

/// Gives the body the event, with the lock.
template <class Body>
CUresult with_event(const char* call, CUevent handle, Body body) {
  return cuemu::in_context(call, [&](Device& device) -> CUresult {
    World::Lock lock(World::the().mutex);
    EventPtr event;
    const CUresult error = cuemu::find_event(call, handle, event);
    return error != CUDA_SUCCESS ? error : static_cast<CUresult>(body(lock, device, *event));
  });
}

}  // namespace

extern "C" {

CUresult cuEventCreate(CUevent* event, unsigned flags) {
  return cuemu::in_context("cuEventCreate", [&](Device& device) {
    if (event == nullptr || flags > 7) return CUDA_ERROR_INVALID_VALUE;
    if ((flags & CU_EVENT_INTERPROCESS) != 0) return CUDA_ERROR_INVALID_VALUE;
    const World::Lock lock(World::the().mutex);
    const auto made = std::make_shared<Event>(Event{device, (flags & CU_EVENT_DISABLE_TIMING) == 0, nullptr});
    *event = reinterpret_cast<CUevent>(World::the().events.add(made));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventDestroy_v2(CUevent handle) {
  return with_event("cuEventDestroy", handle, [&](World::Lock&, Device&, Event&) {
    World::the().events.remove(reinterpret_cast<uint64_t>(handle));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
  if (is_done(handle) && cuemu::is_stream(stream_handle)) return done("cuEventRecord");
  return with_event("cuEventRecord", handle, [&](World::Lock&, Device& device, Event& event) -> CUresult {
    cuemu::StreamPtr stream;
    const CUresult error = cuemu::find_stream("cuEventRecord", device, stream_handle, stream);
    if (error != CUDA_SUCCESS) return error;
    if (&stream->device != &event.device) {
      return cuemu::fault(CUDA_ERROR_INVALID_HANDLE, "cuEventRecord: an event of device %d in a stream of device %d",
                          event.device.index, stream->device.index);
    }
    Item item;
    item.what = "cuEventRecord";
    event.point = item.done;
    stream->put(std::move(item));
    return CUDA_SUCCESS;
  });
}

CUresult cuEventQuery(CUevent handle) {
  if (is_done(handle)) return done("cuEventQuery");
  return with_event("cuEventQuery", handle, [](World::Lock&, Device&, const Event& event) {
    return event.point == nullptr || event.point->complete ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuEventSynchronize(CUevent handle) {
  if (is_done(handle)) return done("cuEventSynchronize");
  return with_event("cuEventSynchronize", handle, [](World::Lock& lock, Device&, const Event& event) -> CUresult {
    if (event.point == nullptr) return CUDA_SUCCESS;
    // A copy: the event may be recorded again, or destroyed, meanwhile.
    const auto point = event.point;
    return World::the().await(lock, event.device, {point});
  });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return with_event("cuEventElapsedTime", start, [&](World::Lock&, Device&, const Event& from) -> CUresult {
    if (milliseconds == nullptr) return CUDA_ERROR_INVALID_VALUE;
    EventPtr to;
    const CUresult error = cuemu::find_event("cuEventElapsedTime", end, to);
    if (error != CUDA_SUCCESS) return error;
    if (!from.times || !to->times) return CUDA_ERROR_INVALID_HANDLE;
    if (cuemu::config().null_mode) {
      *milliseconds = 0;
      return CUDA_SUCCESS;
    }
    if (from.point == nullptr || to->point == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (!from.point->complete || !to->point->complete) return CUDA_ERROR_NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->point->time - from.point->time).count();
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
