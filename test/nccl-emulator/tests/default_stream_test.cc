#include <thread>

#include "cuda_fixture.h"

using cuemu::test::Bytes;
using cuemu::test::Fixture;

namespace {

/// Two streams where work of `first` is held up, and then work is put into `second`.
class TwoStreams : public Fixture {
 public:
  /// Whether the work of the second stream waits for that of the first.
  bool waits(CUstream first, CUstream second) {
    const CUdeviceptr memory = allocate(1);
    const CUevent before = event();
    const CUevent after = event();
    const uint64_t held = hold(first);
    REQUIRE(cuMemsetD8Async(memory, 1, 1, first) == CUDA_SUCCESS);
    REQUIRE(cuEventRecord(before, first) == CUDA_SUCCESS);
    REQUIRE(cuEventRecord(after, second) == CUDA_SUCCESS);
    // If it does not wait it ends soon; if it does, it has not ended, however long one looks.
    bool ended = false;
    for (int look = 0; look < 100 && !ended; look++) {
      ended = cuEventQuery(after) == CUDA_SUCCESS;
      if (!ended) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(cuEventQuery(before) == CUDA_ERROR_NOT_READY);
    if (ended) CHECK(cuStreamQuery(second) == CUDA_SUCCESS);
    cuemu_release(held);
    CHECK(cuEventSynchronize(after) == CUDA_SUCCESS);
    if (!ended) CHECK(cuEventQuery(before) == CUDA_SUCCESS);
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
    return !ended;
  }
};

}  // namespace

TEST_CASE_FIXTURE(TwoStreams, "the default stream and blocking streams wait for each other") {
  const CUstream blocking = stream(CU_STREAM_DEFAULT);
  const CUstream other = stream(CU_STREAM_DEFAULT);
  CHECK(waits(nullptr, blocking));
  CHECK(waits(blocking, nullptr));
  CHECK(waits(CU_STREAM_LEGACY, blocking));
  CHECK(waits(blocking, CU_STREAM_LEGACY));
  CHECK(waits(nullptr, CU_STREAM_LEGACY));
  CHECK(waits(nullptr, CU_STREAM_PER_THREAD));
  CHECK(waits(CU_STREAM_PER_THREAD, nullptr));
  CHECK_FALSE(waits(blocking, other));
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(TwoStreams, "the default stream and others do not") {
  const CUstream other = stream(CU_STREAM_NON_BLOCKING);
  CHECK_FALSE(waits(nullptr, other));
  CHECK_FALSE(waits(other, nullptr));
  CHECK_FALSE(waits(CU_STREAM_PER_THREAD, other));
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "work of a blocking stream that was destroyed holds up the default stream") {
  const CUdeviceptr memory = allocate(1);
  const CUstream stream = this->stream(CU_STREAM_DEFAULT);
  const uint64_t held = hold(stream);
  REQUIRE(cuMemsetD8Async(memory, 1, 1, stream) == CUDA_SUCCESS);
  REQUIRE(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(nullptr) == CUDA_ERROR_NOT_READY);
  REQUIRE(cuMemsetD8Async(memory, 2, 1, nullptr) == CUDA_SUCCESS);
  cuemu_release(held);
  CHECK(cuStreamSynchronize(nullptr) == CUDA_SUCCESS);
  CHECK(read(memory, 1) == Bytes{2});
}

TEST_CASE_FIXTURE(Fixture, "each thread has its own stream, which ends with it") {
  const CUdeviceptr memory = allocate(1);
  const uint64_t held = hold(CU_STREAM_PER_THREAD);
  std::thread([&] {
    REQUIRE(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    CHECK(cuMemsetD8Async(memory, 1, 1, CU_STREAM_PER_THREAD) == CUDA_SUCCESS);
    CHECK(cuStreamSynchronize(CU_STREAM_PER_THREAD) == CUDA_SUCCESS);
  }).join();
  CHECK(cuStreamQuery(CU_STREAM_PER_THREAD) == CUDA_ERROR_NOT_READY);
  cuemu_release(held);
  CHECK(cuStreamSynchronize(CU_STREAM_PER_THREAD) == CUDA_SUCCESS);
  CHECK(read(memory, 1) == Bytes{1});
}
