// What every call of the driver checks first.
#pragma once

#include <atomic>
#include <exception>
#include <new>
#include <system_error>

#include "driver_api.h"
#include "world.h"

namespace cuemu {

enum class State { none, initialized, forked };
extern std::atomic<State> state;

/// Of this thread: device of its context, -1: none, -2: a thread of a stream, which may not call the driver.
extern thread_local int current;
constexpr int no_device = -1;
constexpr int on_stream = -2;

inline void forbid_calls_here() { current = on_stream; }

/// CUDA_SUCCESS if this thread may call the driver.
CUresult check_thread(const char* call);
/// The same, and has a context, which it gives.
CUresult check_context(const char* call, Device*& device);

/// Runs the body; nothing is thrown across the C ABI.
template <class Body>
CUresult guarded(Body body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (const std::system_error&) {
    return CUDA_ERROR_OPERATING_SYSTEM;
  } catch (...) {
    return CUDA_ERROR_UNKNOWN;
  }
}

/// A call that needs no context.
template <class Body>
CUresult anywhere(const char* call, Body body) noexcept {
  const CUresult error = check_thread(call);
  return error != CUDA_SUCCESS ? error : guarded(body);
}

/// A call that needs a context; gives the body its device.
template <class Body>
CUresult in_context(const char* call, Body body) noexcept {
  Device* device = nullptr;
  const CUresult error = check_context(call, device);
  return error != CUDA_SUCCESS ? error : guarded([&] { return body(*device); });
}

/// The stream of a handle, as the driver sees it in a call on this device: 0, 1 and 2 are its default streams. Fails, with
/// a fault, if there is none, and with the error of its device if that is broken. With the mutex of the world held.
CUresult find_stream(const char* call, Device& device, CUstream handle, StreamPtr& stream);
/// The same for an event.
CUresult find_event(const char* call, CUevent handle, EventPtr& event);

/// Without a lock, for null mode.
bool is_stream(CUstream handle);
bool is_event(CUevent handle);

}  // namespace cuemu
