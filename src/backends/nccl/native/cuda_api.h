// The part of the CUDA driver API that the shim calls: so it builds without CUDA's headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace c10d::nccl_shim {

/// CUresult.
enum class CuResult : int {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  no_device = 100,
  invalid_device = 101,
  invalid_context = 201,
  invalid_handle = 400,
  not_found = 500,
  not_ready = 600,
};

struct CuContextOpaque;
struct CuStreamOpaque;
struct CuEventOpaque;
using CuContext = CuContextOpaque*;
using CuStream = CuStreamOpaque*;
using CuEvent = CuEventOpaque*;
using CuDevice = int;
using CuAddress = uint64_t;

constexpr unsigned kCuStreamNonBlocking = 1;
constexpr unsigned kCuEventDisableTiming = 2;
/// CUpointer_attribute.
constexpr int kCuPointerMemoryType = 2;
constexpr int kCuPointerDeviceOrdinal = 9;
/// CUmemorytype.
constexpr unsigned kCuMemoryOnDevice = 2;

/// Its functions, under the names that CUDA's header maps to them.
struct CudaApi {
  CuResult (*init)(unsigned flags);
  CuResult (*driver_get_version)(int* version);
  CuResult (*get_error_name)(CuResult error, const char** name);
  CuResult (*get_error_string)(CuResult error, const char** text);
  CuResult (*device_get_count)(int* count);
  CuResult (*device_get)(CuDevice* device, int ordinal);
  CuResult (*primary_ctx_retain)(CuContext* context, CuDevice device);
  CuResult (*primary_ctx_release)(CuDevice device);
  CuResult (*ctx_get_current)(CuContext* context);
  CuResult (*ctx_set_current)(CuContext context);
  CuResult (*ctx_get_stream_priority_range)(int* least, int* greatest);
  CuResult (*stream_create_with_priority)(CuStream* stream, unsigned flags, int priority);
  CuResult (*stream_destroy)(CuStream stream);
  CuResult (*stream_get_ctx)(CuStream stream, CuContext* context);
  CuResult (*stream_wait_event)(CuStream stream, CuEvent event, unsigned flags);
  CuResult (*event_create)(CuEvent* event, unsigned flags);
  CuResult (*event_destroy)(CuEvent event);
  CuResult (*event_record)(CuEvent event, CuStream stream);
  CuResult (*event_query)(CuEvent event);
  CuResult (*mem_alloc)(CuAddress* address, size_t bytes);
  CuResult (*mem_free)(CuAddress address);
  CuResult (*memcpy_dtod_async)(CuAddress to, CuAddress from, size_t bytes, CuStream stream);
  CuResult (*mem_get_address_range)(CuAddress* base, size_t* bytes, CuAddress address);
  CuResult (*pointer_get_attribute)(void* value, int attribute, CuAddress address);
};

}  // namespace c10d::nccl_shim
