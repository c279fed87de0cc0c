// What a group has on its device.
#pragma once

#include "device_context.h"
#include "device_memory_check.h"
#include "flight.h"
#include "scratch_memory.h"

namespace c10d::nccl_shim {

struct GroupDevice {
  /// Throws Failure.
  GroupDevice(int ordinal, bool high_priority)
      : context(ordinal),
        stream(context.make_stream(high_priority)),
        memory_check(context),
        flights(context),
        events(context),
        scratch(context) {}
  ~GroupDevice() { load_library().cuda.stream_destroy(stream); }
  GroupDevice(const GroupDevice&) = delete;
  GroupDevice& operator=(const GroupDevice&) = delete;

  /// What the driver returns now: after an error of a kernel, the same to every call. The context must be current.
  CuResult error() const {
    const auto& cuda = load_library().cuda;
    CuEvent event = nullptr;
    CuResult result = cuda.event_create(&event, kCuEventDisableTiming);
    if (result != CuResult::success) return result;
    result = cuda.event_record(event, stream);
    cuda.event_destroy(event);
    return result;
  }

  const DeviceContext context;
  const CuStream stream;
  /// Of the host's thread.
  DeviceMemoryCheck memory_check;
  FlightTable flights;
  /// Of the native thread.
  EventPool events;
  ScratchMemory scratch;
};

}  // namespace c10d::nccl_shim
