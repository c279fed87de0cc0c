#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <numeric>

#include "cuda_fixture.h"

using cuemu::test::Bytes;
using cuemu::test::Fixture;
using cuemu::test::last_fault;

namespace {

/// Whether the kernel may read this memory of the process: what a host access would do, without its signal.
bool is_readable(const void* address) {
  char byte = 0;
  const iovec to{&byte, 1};
  const iovec from{const_cast<void*>(address), 1};
  return ::process_vm_readv(::getpid(), &to, 1, &from, 1, 0) == 1;
}

Bytes numbers(size_t count) {
  Bytes bytes(count);
  std::iota(bytes.begin(), bytes.end(), uint8_t{1});
  return bytes;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "the host cannot read device memory; what it copies there comes back") {
  const CUdeviceptr memory = allocate(10'000);
  const Bytes data = numbers(10'000);
  CHECK(is_readable(data.data()));
  CHECK_FALSE(is_readable(reinterpret_cast<const void*>(memory)));
  REQUIRE(cuMemcpyHtoD_v2(memory, data.data(), data.size()) == CUDA_SUCCESS);
  CHECK(read(memory, data.size()) == data);
  CHECK_FALSE(is_readable(reinterpret_cast<const void*>(memory)));
  CHECK(cuMemFree_v2(memory) == CUDA_SUCCESS);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "fresh memory is poison, also where other memory was") {
  for (int turn = 0; turn < 3; turn++) {
    const CUdeviceptr memory = allocate(100);
    CHECK(read(memory, 100) == Bytes(100, 0xdb));
    REQUIRE(cuMemsetD8_v2(memory, 7, 100) == CUDA_SUCCESS);
    CHECK(read(memory, 100) == Bytes(100, 7));
    CHECK(cuMemFree_v2(memory) == CUDA_SUCCESS);
  }
  const uint8_t* const pinned = allocate_pinned(100);
  CHECK(Bytes(pinned, pinned + 100) == Bytes(100, 0xdb));
}

TEST_CASE_FIXTURE(Fixture, "memory is limited, and freed memory can be used again") {
  size_t available = 0;
  size_t total = 0;
  REQUIRE(cuMemGetInfo_v2(&available, &total) == CUDA_SUCCESS);
  CHECK(total == size_t{64} << 20);
  CHECK(available == total);
  CUdeviceptr memory = 0;
  CHECK(cuMemAlloc_v2(&memory, total + 1) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(cuMemAlloc_v2(&memory, SIZE_MAX) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(cuMemAlloc_v2(&memory, 0) == CUDA_ERROR_INVALID_VALUE);
  for (int turn = 0; turn < 20; turn++) {
    const CUdeviceptr first = allocate(total / 2);
    const CUdeviceptr second = allocate(total / 2);
    CHECK(cuMemAlloc_v2(&memory, 1) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(cuemu_blocks() == 2);
    REQUIRE(cuMemFree_v2(first) == CUDA_SUCCESS);
    REQUIRE(cuMemGetInfo_v2(&available, &total) == CUDA_SUCCESS);
    CHECK(available == total / 2);
    REQUIRE(cuMemFree_v2(second) == CUDA_SUCCESS);
  }
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "what is known of an address") {
  const CUdeviceptr memory = allocate(1000);
  const void* const pinned = allocate_pinned(1000);
  const auto pinned_address = reinterpret_cast<CUdeviceptr>(pinned);
  unsigned type = 0;
  int device = -1;
  CHECK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory + 999) == CUDA_SUCCESS);
  CHECK(type == CU_MEMORYTYPE_DEVICE);
  CHECK(cuPointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, memory) == CUDA_SUCCESS);
  CHECK(device == 0);
  CHECK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, pinned_address) == CUDA_SUCCESS);
  CHECK(type == CU_MEMORYTYPE_HOST);
  CHECK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory + 1000) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(&type)) ==
        CUDA_ERROR_INVALID_VALUE);
  CUdeviceptr base = 0;
  size_t bytes = 0;
  CHECK(cuMemGetAddressRange_v2(&base, &bytes, memory + 10) == CUDA_SUCCESS);
  CHECK(base == memory);
  CHECK(bytes == 1000);
  CHECK(cuMemGetAddressRange_v2(&base, &bytes, 4711) == CUDA_ERROR_NOT_FOUND);
  CHECK(cuemu_device_of(memory + 1000) == -1);
  CHECK(cuemu_device_of(pinned_address) == -1);
  CHECK(cuemu_alias(0, memory, 1000) != nullptr);
  CHECK(cuemu_alias(0, memory + 1, 1000) == nullptr);
  CHECK(cuemu_alias(1, memory, 1000) == nullptr);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "freeing memory that queued work uses is a fault, and the work does not crash") {
  const CUdeviceptr memory = allocate(4);
  uint8_t* const pinned = allocate_pinned(4);
  const CUstream stream = this->stream();
  const uint64_t held = hold(stream);
  REQUIRE(cuMemcpyHtoDAsync_v2(memory, pinned, 4, stream) == CUDA_SUCCESS);
  CHECK(cuMemFree_v2(memory) == CUDA_SUCCESS);
  CHECK(faults() == 1);
  CHECK(last_fault().find("cuMemFree: 4 bytes at 0x") == 0);
  CHECK(last_fault().find("queued work uses them: cuMemcpyHtoDAsync") != std::string::npos);
  CHECK(cuMemFreeHost(pinned) == CUDA_SUCCESS);
  CHECK(faults() == 1);
  CHECK(cuemu_blocks() == 0);
  cuemu_release(held);
  CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
  size_t available = 0;
  size_t total = 0;
  REQUIRE(cuMemGetInfo_v2(&available, &total) == CUDA_SUCCESS);
  CHECK(available == total);
}

TEST_CASE_FIXTURE(Fixture, "freeing waits for the work") {
  const CUdeviceptr memory = allocate(4);
  const CUdeviceptr copy = allocate(4);
  const CUstream stream = this->stream();
  uint64_t found = 0;
  for (int turn = 0; turn < 100 && found == 0; turn++) {
    const CUdeviceptr memory = allocate(4);
    REQUIRE(cuMemsetD8Async(memory, 9, 4, stream) == CUDA_SUCCESS);
    REQUIRE(cuMemcpyDtoDAsync_v2(copy, memory, 4, stream) == CUDA_SUCCESS);
    REQUIRE(cuMemFree_v2(memory) == CUDA_SUCCESS);
    CHECK(cuStreamQuery(stream) == CUDA_SUCCESS);
    found = faults();
  }
  CHECK(found == 1);
  CHECK(read(copy, 4) == Bytes(4, 9));
  CHECK(cuMemFree_v2(memory) == CUDA_SUCCESS);
}

TEST_CASE_FIXTURE(Fixture, "what is freed twice, or was never allocated, is a fault") {
  const CUdeviceptr memory = allocate(4);
  void* const pinned = allocate_pinned(4);
  CHECK(cuMemFree_v2(memory + 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemFree_v2(reinterpret_cast<CUdeviceptr>(pinned)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemFreeHost(reinterpret_cast<void*>(memory)) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemFree_v2(memory) == CUDA_SUCCESS);
  CHECK(cuMemFreeHost(pinned) == CUDA_SUCCESS);
  CHECK(faults() == 3);
  CHECK(cuMemFree_v2(memory) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemFreeHost(pinned) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemsetD8_v2(memory, 1, 4) == CUDA_ERROR_INVALID_VALUE);
  CHECK(faults() == 3);
}
