// Memory and copies of the emulated CUDA runtime.

#include "current_device.h"

using namespace emulated_runtime;

namespace {

/// CU_MEMORYTYPE_HOST, CU_MEMORYTYPE_DEVICE, or 0 for memory that CUDA does not know.
unsigned type_of(const void* pointer) {
  unsigned type = 0;
  const auto result = cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address_of(pointer));
  return result == CUDA_SUCCESS ? type : 0;
}

bool on_device(const void* pointer) { return type_of(pointer) == CU_MEMORYTYPE_DEVICE; }

cudaError_t copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (on_device(to)) {
    return on_device(from) ? cuMemcpyDtoDAsync_v2(address_of(to), address_of(from), bytes, stream)
                           : cuMemcpyHtoDAsync_v2(address_of(to), from, bytes, stream);
  }
  return on_device(from) ? cuMemcpyDtoHAsync_v2(to, address_of(from), bytes, stream) : cudaErrorNotSupported;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** address, size_t bytes) {
  return within([&] {
    CUdeviceptr made = 0;
    const CUresult result = bytes == 0 ? CUDA_SUCCESS : cuMemAlloc_v2(&made, bytes);
    *address = reinterpret_cast<void*>(made);
    return result;
  });
}

cudaError_t cudaFree(void* address) {
  return within([&] { return address == nullptr ? cudaSuccess : cuMemFree_v2(address_of(address)); });
}

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned flags) {
  return within([&] { return cuMemHostAlloc(address, bytes, flags); });
}

cudaError_t cudaFreeHost(void* address) {
  return within([&] { return address == nullptr ? cudaSuccess : cuMemFreeHost(address); });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  return within([&] { return cuMemGetInfo_v2(free_bytes, total); });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  return within([&] {
    *attributes = {};
    attributes->device = -1;
    const unsigned type = type_of(address);
    if (type == 0) return cudaSuccess;
    auto* pointer = const_cast<void*>(address);
    cuPointerGetAttribute(&attributes->device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address_of(address));
    attributes->type = type == CU_MEMORYTYPE_DEVICE ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
    attributes->devicePointer = pointer;
    if (type == CU_MEMORYTYPE_HOST) attributes->hostPointer = pointer;
    return cudaSuccess;
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return within([&] {
    const cudaError_t result = copy(to, from, bytes, nullptr);
    return result == cudaSuccess ? cuStreamSynchronize(nullptr) : result;
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return within([&] { return copy(to, from, bytes, stream); });
}

cudaError_t cudaMemset(void* address, int value, size_t bytes) {
  return within([&] { return cuMemsetD8_v2(address_of(address), static_cast<unsigned char>(value), bytes); });
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
  return within([&] { return cuMemsetD8Async(address_of(address), static_cast<unsigned char>(value), bytes, stream); });
}

}  // extern "C"
