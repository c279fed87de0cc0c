#include <cstring>
#include <thread>

#include "cuda_fixture.h"

using cuemu::test::Fixture;

TEST_CASE_FIXTURE(Fixture, "each thread has a context of its own") {
  CUcontext other = nullptr;
  REQUIRE(cuDevicePrimaryCtxRetain(&other, 1) == CUDA_SUCCESS);
  CHECK(other != context);
  std::thread([&] {
    CUcontext now = context;
    CHECK(cuCtxGetCurrent(&now) == CUDA_SUCCESS);
    CHECK(now == nullptr);
    CHECK(cuemu_current_device() == -1);
    CUdevice device = -1;
    CUdeviceptr memory = 0;
    CHECK(cuCtxGetDevice(&device) == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(cuMemAlloc_v2(&memory, 1) == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(cuStreamSynchronize(nullptr) == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(cuCtxSetCurrent(other) == CUDA_SUCCESS);
    CHECK(cuCtxGetDevice(&device) == CUDA_SUCCESS);
    CHECK(device == 1);
    CHECK(cuemu_current_device() == 1);
  }).join();
  CUdevice device = -1;
  CHECK(cuCtxGetDevice(&device) == CUDA_SUCCESS);
  CHECK(device == 0);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a context lives until the last release, which takes all that is in it") {
  CUcontext other = nullptr;
  REQUIRE(cuDevicePrimaryCtxRetain(&other, 1) == CUDA_SUCCESS);
  REQUIRE(cuDevicePrimaryCtxRetain(&other, 1) == CUDA_SUCCESS);
  REQUIRE(cuCtxSetCurrent(other) == CUDA_SUCCESS);
  const CUdeviceptr memory = allocate(100);
  allocate_pinned(100);
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  REQUIRE(cuMemsetD8Async(memory, 1, 100, stream) == CUDA_SUCCESS);
  REQUIRE(cuEventRecord(event, stream) == CUDA_SUCCESS);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
  CHECK(cuEventSynchronize(event) == CUDA_SUCCESS);
  unsigned flags = 9;
  int active = -1;
  CHECK(cuDevicePrimaryCtxGetState(1, &flags, &active) == CUDA_SUCCESS);
  CHECK(active == 1);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
  CHECK(cuDevicePrimaryCtxGetState(1, &flags, &active) == CUDA_SUCCESS);
  CHECK(active == 0);
  CHECK(cuemu_pinned_blocks() == 0);
  CHECK(cuEventQuery(event) == CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CHECK(cuemu_enqueue(1, nullptr, "late", nullptr, nullptr, nullptr) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(faults() == 0);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(cuCtxSetCurrent(other) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(faults() == 2);
  REQUIRE(cuDevicePrimaryCtxRetain(&other, 1) == CUDA_SUCCESS);
  CHECK(cuCtxSetCurrent(other) == CUDA_SUCCESS);
  CHECK(cuEventQuery(event) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(cuStreamQuery(stream) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(cuMemFree_v2(memory) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemsetD8_v2(allocate(4), 1, 4) == CUDA_SUCCESS);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
}

TEST_CASE_FIXTURE(Fixture, "releasing a context waits for its work, and records that it had to give up") {
  CUcontext other = nullptr;
  REQUIRE(cuDevicePrimaryCtxRetain(&other, 1) == CUDA_SUCCESS);
  REQUIRE(cuCtxSetCurrent(other) == CUDA_SUCCESS);
  const CUdeviceptr memory = allocate(4);
  const uint64_t held = cuemu_hold(1, nullptr);
  REQUIRE(cuMemsetD8Async(memory, 1, 4, nullptr) == CUDA_SUCCESS);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
  CHECK(faults() == 2);
  CHECK(cuemu_release(held) == 0);
}

TEST_CASE_FIXTURE(Fixture, "devices") {
  int count = 0;
  CHECK(cuDeviceGetCount(&count) == CUDA_SUCCESS);
  CHECK(count == 4);
  CUdevice device = -1;
  CHECK(cuDeviceGet(&device, 3) == CUDA_SUCCESS);
  CHECK(device == 3);
  CHECK(cuDeviceGet(&device, 4) == CUDA_ERROR_INVALID_DEVICE);
  CHECK(cuDeviceGet(&device, -1) == CUDA_ERROR_INVALID_DEVICE);
  char name[100] = "";
  CHECK(cuDeviceGetName(name, sizeof name, 2) == CUDA_SUCCESS);
  CHECK(std::string(name) == "NCCL emulator device 2 (not a GPU)");
  CHECK(cuDeviceGetName(name, 5, 2) == CUDA_SUCCESS);
  CHECK(std::string(name) == "NCCL");
  size_t bytes = 0;
  CHECK(cuDeviceTotalMem_v2(&bytes, 1) == CUDA_SUCCESS);
  CHECK(bytes == size_t{64} << 20);
  int value = -1;
  CHECK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0) == CUDA_SUCCESS);
  CHECK(value == 9);
  CHECK(cuDeviceGetAttribute(&value, 100'000, 0) == CUDA_ERROR_INVALID_VALUE);
  int version = 0;
  CHECK(cuDriverGetVersion(&version) == CUDA_SUCCESS);
  CHECK(version == 13000);
  int least = -9;
  int greatest = -9;
  CHECK(cuCtxGetStreamPriorityRange(&least, &greatest) == CUDA_SUCCESS);
  CHECK(least == 0);
  CHECK(greatest == -5);
}

TEST_CASE_FIXTURE(Fixture, "errors have CUDA's names and texts; functions are found by name") {
  const char* text = nullptr;
  CHECK(cuGetErrorName(600, &text) == CUDA_SUCCESS);
  CHECK(std::strcmp(text, "CUDA_ERROR_NOT_READY") == 0);
  CHECK(cuGetErrorString(700, &text) == CUDA_SUCCESS);
  CHECK(std::strcmp(text, "an illegal memory access was encountered") == 0);
  CHECK(cuGetErrorString(12'345, &text) == CUDA_ERROR_INVALID_VALUE);
  CHECK(text == nullptr);
  void* function = nullptr;
  int status = -1;
  CHECK(cuGetProcAddress_v2("cuMemAlloc", &function, 13000, 0, &status) == CUDA_SUCCESS);
  CHECK(function == reinterpret_cast<void*>(&cuMemAlloc_v2));
  CHECK(status == 0);
  CHECK(cuGetProcAddress_v2("cuNothing", &function, 13000, 0, &status) == CUDA_ERROR_NOT_FOUND);
}
