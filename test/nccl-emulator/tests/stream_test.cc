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
