#include "cuda_fixture.h"

using cuemu::test::Bytes;
using cuemu::test::Fixture;

TEST_CASE_FIXTURE(Fixture, "work is done in order, when the stream gets there") {
  const CUdeviceptr memory = allocate(4);
  uint8_t* const pinned = allocate_pinned(4);
  const CUstream stream = this->stream();
  const uint64_t held = hold(stream);
  REQUIRE(cuMemsetD8Async(memory, 1, 4, stream) == CUDA_SUCCESS);
  REQUIRE(cuMemcpyDtoHAsync_v2(pinned, memory, 4, stream) == CUDA_SUCCESS);
  REQUIRE(cuMemsetD8Async(memory, 2, 4, stream) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(stream) == CUDA_ERROR_NOT_READY);
  CHECK(pinned[0] == 0xdb);
  CHECK(cuemu_release(held) == 0);
  CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(stream) == CUDA_SUCCESS);
  CHECK(Bytes(pinned, pinned + 4) == Bytes(4, 1));
  CHECK(read(memory, 4) == Bytes(4, 2));
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "work of a destroyed stream is done still") {
  const CUdeviceptr memory = allocate(4);
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  const uint64_t held = hold(stream);
  REQUIRE(cuMemsetD8Async(memory, 1, 4, stream) == CUDA_SUCCESS);
  REQUIRE(cuEventRecord(event, stream) == CUDA_SUCCESS);
  CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
  CHECK(cuemu_streams() == 0);
  CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
  cuemu_release(held);
  CHECK(cuEventSynchronize(event) == CUDA_SUCCESS);
  CHECK(read(memory, 4) == Bytes(4, 1));
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "synchronizing the context waits for all streams") {
  const CUdeviceptr memory = allocate(8);
  for (uint8_t each = 0; each < 8; each++) {
    REQUIRE(cuMemsetD8Async(memory + each, each, 1, stream(each % 2)) == CUDA_SUCCESS);
  }
  CHECK(cuemu_streams() == 8);
  CHECK(read(memory, 8) == Bytes{0, 1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE_FIXTURE(Fixture, "what is known of a stream") {
  CUstream stream = nullptr;
  REQUIRE(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -100) == CUDA_SUCCESS);
  int priority = 0;
  unsigned flags = 0;
  CUcontext found = nullptr;
  CHECK(cuStreamGetPriority(stream, &priority) == CUDA_SUCCESS);
  CHECK(priority == -5);
  CHECK(cuStreamGetFlags(stream, &flags) == CUDA_SUCCESS);
  CHECK(flags == CU_STREAM_NON_BLOCKING);
  CHECK(cuStreamGetCtx(stream, &found) == CUDA_SUCCESS);
  CHECK(found == context);
  CHECK(cuStreamGetCtx(nullptr, &found) == CUDA_SUCCESS);
  CHECK(found == context);
  CHECK(cuemu_stream_device(stream) == 0);
  CHECK(cuemu_stream_device(nullptr) == 0);
  CHECK(reinterpret_cast<uint64_t>(stream) < uint64_t{1} << 53);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a host function runs in order, and may not call the driver") {
  const CUstream stream = this->stream();
  const CUdeviceptr memory = allocate(1);
  struct Seen {
    uint8_t* pinned;
    uint8_t value = 0;
    CUresult result = -1;
  } seen{allocate_pinned(1)};
  REQUIRE(cuMemsetD8Async(memory, 4, 1, stream) == CUDA_SUCCESS);
  REQUIRE(cuMemcpyDtoHAsync_v2(seen.pinned, memory, 1, stream) == CUDA_SUCCESS);
  const CUhostFn run = [](void* data) {
    auto* const seen = static_cast<Seen*>(data);
    seen->value = *seen->pinned;
    seen->result = cuCtxSynchronize();
  };
  REQUIRE(cuLaunchHostFunc(stream, run, &seen) == CUDA_SUCCESS);
  CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
  CHECK(seen.value == 4);
  CHECK(seen.result == CUDA_ERROR_NOT_PERMITTED);
  CHECK(faults() == 1);
  CHECK(cuLaunchHostFunc(stream, nullptr, nullptr) == CUDA_ERROR_INVALID_VALUE);
}
