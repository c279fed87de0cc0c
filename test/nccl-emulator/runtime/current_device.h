#pragma once

#include "runtime_api.h"

namespace emulated_runtime {

/// Starts the driver, and makes the primary context of this thread's device current, as the runtime does in most calls.
cudaError_t enter();

/// Notes a result as the last one of this thread, unless it is success or "not ready", and returns it.
cudaError_t noted(cudaError_t result);

/// enter(), then the call; its result noted.
template <class Call>
cudaError_t within(Call call) {
  const cudaError_t entered = enter();
  return noted(entered == cudaSuccess ? call() : entered);
}

inline CUdeviceptr address_of(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

}  // namespace emulated_runtime
