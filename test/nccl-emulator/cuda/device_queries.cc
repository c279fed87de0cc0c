// What the driver says of a device.
#include <algorithm>
#include <cstring>
#include <string>

#include "calls.h"
#include "config.h"

using cuemu::World;

extern "C" {

CUresult cuDeviceGetCount(int* count) {
  return cuemu::anywhere("cuDeviceGetCount", [&] {
    if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<int>(World::the().devices.size());
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return cuemu::anywhere("cuDeviceGet", [&] {
    if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (World::the().device(ordinal) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetName(char* name, int capacity, CUdevice device) {
  return cuemu::anywhere("cuDeviceGetName", [&] {
    if (name == nullptr || capacity <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (World::the().device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    const std::string text = "NCCL emulator device " + std::to_string(device) + " (not a GPU)";
    const size_t length = std::min(text.size(), static_cast<size_t>(capacity) - 1);
    std::memcpy(name, text.data(), length);
    name[length] = '\0';
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return cuemu::anywhere("cuDeviceTotalMem", [&] {
    if (bytes == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (World::the().device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    *bytes = cuemu::config().memory;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  return cuemu::anywhere("cuDeviceGetAttribute", [&] {
    if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
    if (World::the().device(device) == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    switch (attribute) {
      case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = 1024;
        break;
      case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
        *value = 32;
        break;
      case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
      case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
      case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
      case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
        *value = 1;
        break;
      case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
        *value = device + 1;
        break;
      case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
      case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
      case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
        *value = 0;
        break;
      case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = 9;
        break;
      case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = 0;
        break;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
