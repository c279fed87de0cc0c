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
