// The test device over the emulated CUDA driver.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "driver_api.h"
#include "test_device.h"

namespace c10d::test::test_device {

namespace {

/// Before anything else: rank r is on device r + 1, which the emulator reads when it is first used; and the library is
/// loaded by its path, as the host does, so that the shim finds it by its name.
const bool configured = [] {
  ::setenv("NCCL_EMULATOR_DEVICES", "9", 0);
  const char* chosen = std::getenv("C10D_TEST_NCCL_LIBRARY");
  return ::dlopen(chosen != nullptr ? chosen : C10D_EMULATED_NCCL, RTLD_NOW | RTLD_LOCAL) != nullptr;
}();

void require(CUresult result) { REQUIRE(result == CUDA_SUCCESS); }

/// The context of a device is current until the end.
class Current {
 public:
  explicit Current(int32_t device) {
    require(cuInit(0));
    require(cuCtxGetCurrent(&before_));
    require(cuCtxSetCurrent(context_of(device)));
  }
  ~Current() { cuCtxSetCurrent(before_); }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  /// Retained until the process ends.
  static CUcontext context_of(int32_t device) {
    static std::mutex mutex;
    static auto* const contexts = new std::map<int32_t, CUcontext>;
    const std::lock_guard<std::mutex> lock(mutex);
    CUcontext& context = (*contexts)[device];
    if (context == nullptr) require(cuDevicePrimaryCtxRetain(&context, device));
    return context;
  }

  CUcontext before_ = nullptr;
};

CUstream stream_of(uint64_t handle) { return reinterpret_cast<CUstream>(handle); }
CUevent event_of(uint64_t handle) { return reinterpret_cast<CUevent>(handle); }

}  // namespace

uint8_t poison() { return 0xDB; }

/// They come from the environment: the program runs several times.
void set_delays(uint64_t, uint32_t) {}

uint64_t allocate(int32_t device, uint64_t bytes) {
  const Current current(device);
  CUdeviceptr address = 0;
  // CUDA has no memory of size 0.
  require(cuMemAlloc_v2(&address, bytes == 0 ? 1 : bytes));
  return address;
}

void free(uint64_t address) {
  const Current current(cuemu_device_of(address));
  cuMemFree_v2(address);
}

uint64_t make_stream(int32_t device) {
  const Current current(device);
  CUstream stream = nullptr;
  require(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0));
  return reinterpret_cast<uint64_t>(stream);
}

void close_stream(int32_t device, uint64_t stream) {
  const Current current(device);
  cuStreamDestroy_v2(stream_of(stream));
}

void synchronize(int32_t device, uint64_t stream) {
  const Current current(device);
  require(cuStreamSynchronize(stream_of(stream)));
}

void copy_in(int32_t device, uint64_t stream, uint64_t to, const void* from, uint64_t bytes) {
  const Current current(device);
  require(cuMemcpyHtoDAsync_v2(to, from, bytes, stream_of(stream)));
}

void copy_out(int32_t device, uint64_t stream, void* to, uint64_t from, uint64_t bytes) {
  const Current current(device);
  require(cuMemcpyDtoHAsync_v2(to, from, bytes, stream_of(stream)));
  require(cuStreamSynchronize(stream_of(stream)));
}

void copy(int32_t device, uint64_t stream, uint64_t to, uint64_t from, uint64_t bytes) {
  const Current current(device);
  require(cuMemcpyDtoDAsync_v2(to, from, bytes, stream_of(stream)));
}

uint64_t record(int32_t device, uint64_t stream) {
  const Current current(device);
  CUevent event = nullptr;
  require(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  require(cuEventRecord(event, stream_of(stream)));
  return reinterpret_cast<uint64_t>(event);
}

void await(int32_t device, uint64_t stream, uint64_t event) {
  const Current current(device);
  require(cuStreamWaitEvent(stream_of(stream), event_of(event), 0));
}

bool is_complete(uint64_t event) { return cuEventQuery(event_of(event)) == CUDA_SUCCESS; }

void close_event(uint64_t event) { cuEventDestroy_v2(event_of(event)); }

uint64_t hold(int32_t device, uint64_t stream) {
  const Current current(device);
  const uint64_t hold = cuemu_hold(device, stream_of(stream));
  REQUIRE(hold != 0);
  return hold;
}

void release(uint64_t hold) { cuemu_release(hold); }

uint64_t faults() { return cuemu_faults(); }

}  // namespace c10d::test::test_device
