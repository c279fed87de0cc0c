// The driver itself, and the contexts of threads.
#include <dlfcn.h>
#include <pthread.h>

#include <mutex>
#include <string>

#include "calls.h"
#include "config.h"
#include "faults.h"

using cuemu::Device;
using cuemu::World;

extern "C" {

CUresult cuInit(unsigned flags) {
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (cuemu::state == cuemu::State::forked) return CUDA_ERROR_NOT_INITIALIZED;
  return cuemu::guarded([] {
    if (World::the().devices.empty()) return CUDA_ERROR_NO_DEVICE;
    static std::once_flag once;
    std::call_once(once, [] {
      // The child of a fork has no threads of streams.
      ::pthread_atfork(nullptr, nullptr, [] { cuemu::state = cuemu::State::forked; });
      cuemu::state = cuemu::State::initialized;
    });
    return CUDA_SUCCESS;
  });
}

CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = 13000;
  return CUDA_SUCCESS;
}

CUresult cuGetProcAddress_v2(const char* symbol, void** function, int, uint64_t, int* status) {
  if (symbol == nullptr || function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  static void* const library = [] {
    Dl_info info{};
    ::dladdr(reinterpret_cast<void*>(&cuInit), &info);
    return ::dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }();
  *function = ::dlsym(library, (std::string(symbol) + "_v2").c_str());
  if (*function == nullptr) *function = ::dlsym(library, symbol);
  if (status != nullptr) *status = *function == nullptr ? 1 : 0;
  return *function == nullptr ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice index) {
  return cuemu::anywhere("cuDevicePrimaryCtxRetain", [&] {
    Device* const device = World::the().device(index);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const World::Lock lock(World::the().mutex);
    device->retain();
    *context = device->context();
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice index) {
  return cuemu::anywhere("cuDevicePrimaryCtxRelease", [&]() -> CUresult {
    Device* const device = World::the().device(index);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    World::Lock lock(World::the().mutex);
    return device->release(lock);
  });
}

CUresult cuDevicePrimaryCtxGetState(CUdevice index, unsigned* flags, int* active) {
  return cuemu::anywhere("cuDevicePrimaryCtxGetState", [&] {
    Device* const device = World::the().device(index);
    if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (flags == nullptr || active == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *flags = 0;
    *active = device->active ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return cuemu::anywhere("cuCtxSetCurrent", [&]() -> CUresult {
    if (context == nullptr) {
      cuemu::current = cuemu::no_device;
      return CUDA_SUCCESS;
    }
    const Device* const device = World::the().device(Device::index_of(context));
    if (device == nullptr || !device->active) {
      return cuemu::fault(CUDA_ERROR_INVALID_CONTEXT, "cuCtxSetCurrent: %p is no context", static_cast<void*>(context));
    }
    cuemu::current = device->index;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return cuemu::anywhere("cuCtxGetCurrent", [&] {
    if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const Device* const device = World::the().device(cuemu::current);
    *context = device == nullptr ? nullptr : device->context();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetDevice(CUdevice* index) {
  return cuemu::in_context("cuCtxGetDevice", [&](const Device& device) {
    if (index == nullptr) return CUDA_ERROR_INVALID_VALUE;
    *index = device.index;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSynchronize() {
  return cuemu::in_context("cuCtxSynchronize", [](const Device& device) -> CUresult {
    if (cuemu::config().null_mode) return CUDA_SUCCESS;
    World& world = World::the();
    World::Lock lock(world.mutex);
    return world.await(lock, device, device.pending());
  });
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return cuemu::in_context("cuCtxGetStreamPriorityRange", [&](const Device&) {
    if (least != nullptr) *least = 0;
    if (greatest != nullptr) *greatest = -5;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
