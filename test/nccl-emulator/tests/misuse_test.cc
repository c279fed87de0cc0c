#include "cuda_fixture.h"

using cuemu::test::Fixture;

namespace {

CUstream as_stream(uint64_t handle) { return reinterpret_cast<CUstream>(handle); }
CUevent as_event(uint64_t handle) { return reinterpret_cast<CUevent>(handle); }

constexpr uint64_t garbage[] = {
    3, 0x1000, 0xdbdbdbdb, 0x7fffdeadbeef, uint64_t{1} << 40, (uint64_t{2} << 40) - 1, ~uint64_t{0}};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a handle that is no stream, or was destroyed, is refused and a fault") {
  const CUstream destroyed = stream();
  const CUevent event = this->event();
  const CUdeviceptr memory = allocate(1);
  REQUIRE(cuStreamDestroy_v2(destroyed) == CUDA_SUCCESS);
  stream();  // may be in the place of the one before
  std::vector<CUstream> handles = {destroyed, as_stream(reinterpret_cast<uint64_t>(event))};
  for (const uint64_t each : garbage) handles.push_back(as_stream(each));
  for (const CUstream handle : handles) {
    CUcontext found = nullptr;
    CHECK(cuStreamQuery(handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuStreamSynchronize(handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuStreamDestroy_v2(handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuStreamWaitEvent(handle, event, 0) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuEventRecord(event, handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuMemsetD8Async(memory, 1, 1, handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuStreamGetCtx(handle, &found) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(faults() == 7);
    CHECK(cuemu_stream_device(handle) == -1);
    CHECK(cuemu_hold(0, handle) == 0);
    CHECK(cuemu_enqueue(0, handle, "test", nullptr, nullptr, nullptr) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(faults() == 2);
  }
  CHECK(cuStreamDestroy_v2(nullptr) == CUDA_ERROR_INVALID_HANDLE);
}

TEST_CASE_FIXTURE(Fixture, "a handle that is no event, or was destroyed, is refused and a fault") {
  const CUevent destroyed = event();
  REQUIRE(cuEventDestroy_v2(destroyed) == CUDA_SUCCESS);
  event();
  std::vector<CUevent> handles = {destroyed, nullptr, as_event(reinterpret_cast<uint64_t>(stream()))};
  for (const uint64_t each : garbage) handles.push_back(as_event(each));
  for (const CUevent handle : handles) {
    float milliseconds = 0;
    CHECK(cuEventQuery(handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuEventSynchronize(handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuEventRecord(handle, nullptr) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuStreamWaitEvent(nullptr, handle, 0) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuEventElapsedTime(&milliseconds, handle, handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(cuEventDestroy_v2(handle) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(faults() == 6);
  }
}

TEST_CASE_FIXTURE(Fixture, "a handle stays invalid when others have taken its place") {
  const CUevent destroyed = event();
  REQUIRE(cuEventDestroy_v2(destroyed) == CUDA_SUCCESS);
  std::vector<CUevent> others;
  for (int each = 0; each < 3000; each++) others.push_back(event());
  CHECK(cuemu_events() == 3000);
  CHECK(cuEventQuery(destroyed) == CUDA_ERROR_INVALID_HANDLE);
  for (const CUevent other : others) CHECK(cuEventDestroy_v2(other) == CUDA_SUCCESS);
  CHECK(cuemu_events() == 0);
  CHECK(cuEventQuery(destroyed) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(faults() == 2);
}

TEST_CASE_FIXTURE(Fixture, "invalid arguments") {
  CUstream stream = nullptr;
  CUevent event = nullptr;
  void* pinned = nullptr;
  CHECK(cuStreamCreate(nullptr, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuStreamCreate(&stream, 8) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuEventCreate(nullptr, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuEventCreate(&event, 64) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemAlloc_v2(nullptr, 8) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemHostAlloc(&pinned, 0, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyHtoD_v2(allocate(8), nullptr, 8) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuInit(1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuDevicePrimaryCtxRetain(nullptr, 0) == CUDA_ERROR_INVALID_VALUE);
}
