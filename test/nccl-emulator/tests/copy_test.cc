#include <sys/uio.h>
#include <unistd.h>

#include <thread>

#include "cuda_fixture.h"

using cuemu::test::Bytes;
using cuemu::test::Fixture;

TEST_CASE_FIXTURE(Fixture, "pinned memory is read when the stream gets there") {
  const CUdeviceptr memory = allocate(8);
  uint8_t* const pinned = allocate_pinned(8);
  const CUstream stream = this->stream();
  pinned[0] = 1;
  const uint64_t held = hold(stream);
  REQUIRE(cuMemcpyHtoDAsync_v2(memory, pinned, 8, stream) == CUDA_SUCCESS);
  pinned[0] = 2;
  cuemu_release(held);
  CHECK(read(memory, 8)[0] == 2);
}

TEST_CASE_FIXTURE(Fixture, "pageable memory is read at once, and written before the call returns") {
  const CUdeviceptr memory = allocate(8);
  const CUstream stream = this->stream();
  Bytes host(8, 1);
  const uint64_t held = hold(stream);
  REQUIRE(cuMemcpyHtoDAsync_v2(memory, host.data(), 8, stream) == CUDA_SUCCESS);
  host.assign(8, 2);
  cuemu_release(held);
  Bytes back(8, 9);
  REQUIRE(cuMemcpyDtoHAsync_v2(back.data(), memory, 8, stream) == CUDA_SUCCESS);
  CHECK(back == Bytes(8, 1));
}

TEST_CASE_FIXTURE(Fixture, "copies within a device, between devices, and of a part") {
  CUcontext other_context = nullptr;
  REQUIRE(cuDevicePrimaryCtxRetain(&other_context, 1) == CUDA_SUCCESS);
  REQUIRE(cuCtxSetCurrent(other_context) == CUDA_SUCCESS);
  const CUdeviceptr there = allocate(8);
  REQUIRE(cuCtxSetCurrent(context) == CUDA_SUCCESS);
  CHECK(cuemu_device_of(there) == 1);
  const CUdeviceptr first = allocate(8);
  const CUdeviceptr second = allocate(8);
  const CUstream stream = this->stream();
  REQUIRE(cuMemsetD8Async(first, 5, 8, stream) == CUDA_SUCCESS);
  REQUIRE(cuMemsetD8Async(first + 2, 6, 2, stream) == CUDA_SUCCESS);
  REQUIRE(cuMemcpyDtoDAsync_v2(second, first, 8, stream) == CUDA_SUCCESS);
  REQUIRE(cuMemcpyPeerAsync(there, other_context, second, context, 8, stream) == CUDA_SUCCESS);
  CHECK(read(there, 8) == Bytes{5, 5, 6, 6, 5, 5, 5, 5});
  REQUIRE(cuMemcpyDtoDAsync_v2(second + 1, there + 2, 2, stream) == CUDA_SUCCESS);
  CHECK(read(second, 4) == Bytes{5, 6, 6, 6});
  CHECK(faults() == 0);
  CHECK(cuMemcpyPeerAsync(there, context, second, context, 8, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(faults() == 1);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
}

TEST_CASE_FIXTURE(Fixture, "a range outside one allocation, and host memory taken for device memory, are refused") {
  const CUdeviceptr memory = allocate(100);
  const CUdeviceptr next = allocate(100);
  const CUstream stream = this->stream();
  Bytes host(200, 1);
  CHECK(cuMemcpyHtoD_v2(memory, host.data(), 101) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyHtoDAsync_v2(memory + 99, host.data(), 2, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyDtoHAsync_v2(host.data(), memory - 1, 2, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyDtoDAsync_v2(next + 1, memory, 100, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyDtoDAsync_v2(memory, reinterpret_cast<CUdeviceptr>(host.data()), 4, stream) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyHtoDAsync_v2(next, reinterpret_cast<const void*>(memory), 4, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyDtoHAsync_v2(reinterpret_cast<void*>(memory + 5000), next, 4, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemsetD8Async(memory + 50, 1, 51, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(faults() == 8);
  uint8_t* const pinned = allocate_pinned(10);
  CHECK(cuMemcpyHtoDAsync_v2(memory, pinned + 1, 10, stream) == CUDA_ERROR_INVALID_VALUE);
  CHECK(faults() == 1);
  CHECK(cuMemcpyHtoD_v2(memory, host.data(), 0) == CUDA_SUCCESS);
  CHECK(read(memory, 100) == Bytes(100, 0xdb));
  CHECK(read(next, 100) == Bytes(100, 0xdb));
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "until a copy is done, its destination is poison") {
  const CUdeviceptr from = allocate(1);
  const CUdeviceptr to = allocate(1);
  const CUstream stream = this->stream();
  REQUIRE(cuMemsetD8Async(from, 5, 1, stream) == CUDA_SUCCESS);
  const void* const alias = cuemu_alias(0, to, 1);
  bool saw_poison = false;
  for (int turn = 0; turn < 1000 && !saw_poison; turn++) {
    REQUIRE(cuMemsetD8Async(to, 7, 1, stream) == CUDA_SUCCESS);
    REQUIRE(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    REQUIRE(cuMemcpyDtoDAsync_v2(to, from, 1, stream) == CUDA_SUCCESS);
    // Read by the kernel, which may look at any time.
    uint8_t now = 0;
    do {
      const iovec mine{&now, 1};
      const iovec seen{const_cast<void*>(alias), 1};
      REQUIRE(::process_vm_readv(::getpid(), &mine, 1, &seen, 1, 0) == 1);
      saw_poison = saw_poison || now == 0xdb;
    } while (now != 5);
  }
  CHECK(saw_poison);
}

TEST_CASE_FIXTURE(Fixture, "a copy onto itself is a fault") {
  const CUdeviceptr memory = allocate(8);
  CHECK(cuMemcpyDtoDAsync_v2(memory + 1, memory, 4, nullptr) == CUDA_SUCCESS);
  CHECK(faults() == 1);
  CHECK(cuMemcpyDtoDAsync_v2(memory + 4, memory, 4, nullptr) == CUDA_SUCCESS);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "synchronous copies are in the default stream; one within the device does not wait") {
  const CUdeviceptr memory = allocate(4);
  const CUdeviceptr other = allocate(4);
  const uint64_t held = hold(nullptr);
  CHECK(cuMemcpyDtoD_v2(other, memory, 4) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(nullptr) == CUDA_ERROR_NOT_READY);
  Bytes host(4, 3);
  bool done = false;
  std::thread copying([&] {
    REQUIRE(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    CHECK(cuMemcpyHtoD_v2(memory, host.data(), 4) == CUDA_SUCCESS);
    CHECK(cuMemcpyDtoH_v2(host.data(), other, 4) == CUDA_SUCCESS);
    done = true;
  });
  cuemu_release(held);
  copying.join();
  CHECK(done);
  CHECK(host == Bytes(4, 0xdb));
  CHECK(read(memory, 4) == Bytes(4, 3));
}
