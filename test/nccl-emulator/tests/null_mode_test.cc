// Null mode: what a call costs when nothing waits.
#include <chrono>
#include <cstdlib>
#include <thread>

#include "cuda_fixture.h"

using cuemu::test::Bytes;
using cuemu::test::Fixture;

namespace {

/// Before anything reads the environment.
[[maybe_unused]] const int settings = ::setenv("NCCL_EMULATOR_NULL", "1", 1);

}  // namespace

TEST_CASE_FIXTURE(Fixture, "null mode: work is done at once, in the thread that enqueues it") {
  CHECK(cuemu_null_mode() == 1);
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  const CUdeviceptr memory = allocate(4);
  std::thread::id ran;
  const cuemu_work run = [](void* data) {
    *static_cast<std::thread::id*>(data) = std::this_thread::get_id();
    return 0;
  };
  CHECK(cuemu_enqueue(0, stream, "work", run, nullptr, &ran) == CUDA_SUCCESS);
  CHECK((ran == std::this_thread::get_id()));
  CHECK(cuMemsetD8Async(memory, 3, 4, stream) == CUDA_SUCCESS);
  CHECK(cuEventRecord(event, stream) == CUDA_SUCCESS);
  CHECK(cuEventQuery(event) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(stream) == CUDA_SUCCESS);
  CHECK(cuStreamWaitEvent(nullptr, event, 0) == CUDA_SUCCESS);
  Bytes host(4);
  CHECK(cuMemcpyDtoHAsync_v2(host.data(), memory, 4, stream) == CUDA_SUCCESS);
  CHECK(host == Bytes(4, 3));
  CHECK(cuemu_hold(0, stream) == 0);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "null mode: handles are checked all the same, and a device can break") {
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  REQUIRE(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(stream) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(cuEventRecord(event, stream) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(cuEventQuery(nullptr) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(faults() == 3);
  const cuemu_work fails = [](void*) { return 719; };
  CHECK(cuemu_enqueue(0, nullptr, "work", fails, nullptr, nullptr) == CUDA_SUCCESS);
  CHECK(cuEventQuery(event) == 719);
  CHECK(cuCtxSynchronize() == 719);
  cuemu_break(0, CUDA_SUCCESS);
  CHECK(cuEventQuery(event) == CUDA_SUCCESS);
}

TEST_CASE_FIXTURE(Fixture, "null mode: the calls around an op, shown and not judged") {
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  const cuemu_work nothing = [](void*) { return 0; };
  constexpr int turns = 100'000;
  const auto start = std::chrono::steady_clock::now();
  bool good = true;
  for (int turn = 0; turn < turns; turn++) {
    good = good && cuEventRecord(event, nullptr) == CUDA_SUCCESS;
    good = good && cuStreamWaitEvent(stream, event, 0) == CUDA_SUCCESS;
    good = good && cuemu_enqueue(0, stream, "nothing", nothing, nullptr, nullptr) == CUDA_SUCCESS;
    good = good && cuEventQuery(event) == CUDA_SUCCESS;
  }
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
  MESSAGE("record, wait, enqueue, query: ", spent.count() / turns, " ns");
  CHECK(good);
}
