#include "device_context.h"

namespace c10d::nccl_shim {

DeviceContext::DeviceContext(int ordinal) : ordinal_(ordinal) {
  const Library& found = library();
  if (ordinal < 0 || ordinal >= found.devices) {
    throw Failure(C10D_ERR_UNAVAILABLE, "there is no cuda:" + std::to_string(ordinal) + ": the CUDA driver finds " +
                                            std::to_string(found.devices) +
                                            (found.devices == 1 ? " device" : " devices"));
  }
  require(found.cuda.device_get(&device_, ordinal), "cuDeviceGet");
  require(found.cuda.primary_ctx_retain(&context_, device_), "cuDevicePrimaryCtxRetain");
}

DeviceContext::~DeviceContext() { load_library().cuda.primary_ctx_release(device_); }

CuStream DeviceContext::make_stream(bool high_priority) const {
  const auto& cuda = load_library().cuda;
  const ContextScope scope(*this);
  int least = 0;
  int greatest = 0;
  if (high_priority) require(cuda.ctx_get_stream_priority_range(&least, &greatest), "cuCtxGetStreamPriorityRange");
  CuStream stream = nullptr;
  require(cuda.stream_create_with_priority(&stream, kCuStreamNonBlocking, high_priority ? greatest : 0),
          "cuStreamCreateWithPriority");
  return stream;
}

}  // namespace c10d::nccl_shim
