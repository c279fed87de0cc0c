// Calls of the driver about streams.
#include <algorithm>
#include <utility>

#include "calls.h"
#include "config.h"
#include "faults.h"

using cuemu::Device;
using cuemu::Item;
using cuemu::Stream;
using cuemu::StreamPtr;
using cuemu::World;

namespace {

CUresult create(const char* call, CUstream* stream, unsigned flags, int priority) {
  return cuemu::in_context(call, [&](Device& device) {
    if (stream == nullptr || flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
    const auto kind = flags == CU_STREAM_NON_BLOCKING ? Stream::Kind::non_blocking : Stream::Kind::blocking;
    const World::Lock lock(World::the().mutex);
    const auto opened = device.open_stream(kind, std::clamp(priority, -5, 0));
    opened->handle = World::the().streams.add(opened);
    *stream = reinterpret_cast<CUstream>(opened->handle);
    return CUDA_SUCCESS;
  });
}

/// Gives the body the stream, with the lock.
template <class Body>
CUresult with_stream(const char* call, CUstream handle, Body body) {
  return cuemu::in_context(call, [&](Device& device) -> CUresult {
    World::Lock lock(World::the().mutex);
    StreamPtr stream;
    const CUresult error = cuemu::find_stream(call, device, handle, stream);
    return error != CUDA_SUCCESS ? error : static_cast<CUresult>(body(lock, stream));
  });
}

}  // namespace

extern "C" {

CUresult cuStreamCreate(CUstream* stream, unsigned flags) { return create("cuStreamCreate", stream, flags, 0); }

CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int priority) {
  return create("cuStreamCreateWithPriority", stream, flags, priority);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
  return cuemu::in_context("cuStreamDestroy", [&](const Device&) -> CUresult {
    const World::Lock lock(World::the().mutex);
    const StreamPtr stream = World::the().streams.remove(reinterpret_cast<uint64_t>(handle));
    if (stream == nullptr) {
      return cuemu::fault(CUDA_ERROR_INVALID_HANDLE, "cuStreamDestroy: %p is no stream that can be destroyed",
                          static_cast<void*>(handle));
    }
    stream->handle = 0;
    stream->close();
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamSynchronize(CUstream handle) {
  if (cuemu::config().null_mode) return cuStreamQuery(handle);
  return with_stream("cuStreamSynchronize", handle, [](World::Lock& lock, const StreamPtr& stream) {
    return World::the().await(lock, stream->device, stream->pending());
  });
}

CUresult cuStreamQuery(CUstream handle) {
  if (cuemu::config().null_mode && cuemu::is_stream(handle)) {
    return cuemu::in_context("cuStreamQuery", [](const Device&) { return CUDA_SUCCESS; });
  }
  return with_stream("cuStreamQuery", handle, [](World::Lock&, const StreamPtr& stream) {
    return stream->pending().empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned flags) {
  if (flags > 1) return CUDA_ERROR_INVALID_VALUE;
  if (cuemu::config().null_mode && cuemu::is_stream(handle) && cuemu::is_event(event_handle)) {
    return cuemu::in_context("cuStreamWaitEvent", [](const Device&) { return CUDA_SUCCESS; });
  }
  return with_stream("cuStreamWaitEvent", handle, [&](World::Lock&, const StreamPtr& stream) -> CUresult {
    cuemu::EventPtr event;
    const CUresult error = cuemu::find_event("cuStreamWaitEvent", event_handle, event);
    if (error != CUDA_SUCCESS) return error;
    if (event->point == nullptr || event->point->complete) return CUDA_SUCCESS;
    Item item;
    item.what = "cuStreamWaitEvent";
    item.waits.push_back(event->point);
    stream->put(std::move(item));
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
  return with_stream("cuStreamGetCtx", handle, [&](World::Lock&, const StreamPtr& stream) {
    if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *context = stream->device.context();
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
  return with_stream("cuStreamGetFlags", handle, [&](World::Lock&, const StreamPtr& stream) {
    if (flags == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *flags = stream->kind == Stream::Kind::non_blocking ? CU_STREAM_NON_BLOCKING : CU_STREAM_DEFAULT;
    return CUDA_SUCCESS;
  });
}

CUresult cuStreamGetPriority(CUstream handle, int* priority) {
  return with_stream("cuStreamGetPriority", handle, [&](World::Lock&, const StreamPtr& stream) {
    if (priority == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *priority = stream->priority;
    return CUDA_SUCCESS;
  });
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn run, void* data) {
  if (run == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return with_stream("cuLaunchHostFunc", handle, [&](World::Lock& lock, const StreamPtr& stream) {
    if (cuemu::config().null_mode) {
      lock.unlock();
      run(data);
      return CUDA_SUCCESS;
    }
    Item item;
    item.what = "cuLaunchHostFunc";
    item.work = [run, data] {
      run(data);
      return 0;
    };
    stream->put(std::move(item));
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
