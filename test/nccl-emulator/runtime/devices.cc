// Devices, errors and versions of the emulated CUDA runtime.

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "current_device.h"

namespace emulated_runtime {

namespace {

/// The version of the runtime for which PyTorch was built.
constexpr int kVersion = 13000;

thread_local int device = 0;
thread_local cudaError_t last = cudaSuccess;

std::mutex mutex;
std::map<int, CUcontext> contexts;

/// Stands for a function that the emulated driver has not.
CUresult refuse() { return cudaErrorNotSupported; }

}  // namespace

cudaError_t noted(cudaError_t result) {
  if (result != cudaSuccess && result != cudaErrorNotReady) last = result;
  return result;
}

cudaError_t enter() {
  CUresult result = cuInit(0);
  if (result != CUDA_SUCCESS) return result;
  CUcontext context = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto known = contexts.find(device);
    if (known == contexts.end()) {
      CUdevice handle = 0;
      result = cuDeviceGet(&handle, device);
      if (result == CUDA_SUCCESS) result = cuDevicePrimaryCtxRetain(&context, handle);
      if (result != CUDA_SUCCESS) return result;
      contexts[device] = context;
    } else {
      context = known->second;
    }
  }
  return cuCtxSetCurrent(context);
}

}  // namespace emulated_runtime

using namespace emulated_runtime;

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) { return noted(cuDriverGetVersion(version)); }

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
  const char* text = nullptr;
  return cuGetErrorName(error, &text) == CUDA_SUCCESS && text != nullptr ? text : "unknown error of the emulator";
}

const char* cudaGetErrorString(cudaError_t error) {
  const char* text = nullptr;
  return cuGetErrorString(error, &text) == CUDA_SUCCESS && text != nullptr ? text : "unknown error of the emulator";
}

cudaError_t cudaGetLastError(void) {
  const cudaError_t result = last;
  last = cudaSuccess;
  return result;
}

cudaError_t cudaPeekAtLastError(void) { return last; }

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long flags, int* status) {
  // PyTorch asks for all functions that it may ever call, and does not start without one of them.
  if (cuGetProcAddress_v2(symbol, function, static_cast<int>(version), flags, status) != CUDA_SUCCESS) {
    *function = reinterpret_cast<void*>(&refuse);
    if (status != nullptr) *status = 0;
  }
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  const CUresult result = cuInit(0);
  return noted(result == CUDA_SUCCESS ? cuDeviceGetCount(count) : result);
}

cudaError_t cudaGetDevice(int* current) {
  *current = device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int chosen) {
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result != cudaSuccess) return result;
  if (chosen < 0 || chosen >= count) return noted(cudaErrorInvalidDevice);
  device = chosen;
  return noted(enter());
}

cudaError_t cudaDeviceGetAttribute(int* value, int attribute, int of) {
  return within([&] {
    // What the driver does not know, its devices do not have.
    if (cuDeviceGetAttribute(value, attribute, of) != CUDA_SUCCESS) *value = 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int capacity, int of) {
  std::snprintf(text, static_cast<size_t>(capacity), "0000:%02X:00.0", static_cast<unsigned>(of + 1) & 0xFFU);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(void* properties, int of) {
  return within([&] {
    // cudaDeviceProp of CUDA 13: its size, and the offsets of the fields that are not 0.
    constexpr size_t kSize = 1008;
    constexpr size_t kName = 256;
    auto* bytes = static_cast<char*>(properties);
    std::memset(bytes, 0, kSize);
    CUresult result = cuDeviceGetName(bytes, kName, of);
    size_t memory = 0;
    if (result == CUDA_SUCCESS) result = cuDeviceTotalMem_v2(&memory, of);
    std::memcpy(bytes + 288, &memory, sizeof(memory));
    const auto put = [&](size_t offset, int value) { std::memcpy(bytes + offset, &value, sizeof(value)); };
    const auto copy = [&](size_t offset, int attribute) {
      int value = 0;
      if (cuDeviceGetAttribute(&value, attribute, of) == CUDA_SUCCESS) put(offset, value);
    };
    copy(308, CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    copy(320, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    copy(360, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    copy(364, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    copy(384, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    copy(604, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    return result;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return noted(cudaErrorNotSupported); }

cudaError_t cudaDeviceSynchronize(void) {
  return within([] { return cuCtxSynchronize(); });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return within([&] { return cuCtxGetStreamPriorityRange(least, greatest); });
}

}  // extern "C"
