// What concerns the whole process. The skipped test cases are run by the others, in processes of their own.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "child_process.h"
#include "cuda_fixture.h"

using cuemu::test::Fixture;
using cuemu::test::run_case;

namespace {

/// Before anything reads the environment: little memory, and short waits for what is held up.
[[maybe_unused]] const int settings =
    ::setenv("NCCL_EMULATOR_MEMORY_MB", "64", 0) + ::setenv("NCCL_EMULATOR_FREE_WAIT_MS", "100", 0);

}  // namespace

TEST_CASE("child: nothing works before cuInit" * doctest::skip()) {
  CUcontext context = nullptr;
  int count = 0;
  CHECK(cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuCtxGetCurrent(&context) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuStreamQuery(nullptr) == CUDA_ERROR_NOT_INITIALIZED);
  const char* name = nullptr;
  CHECK(cuGetErrorName(CUDA_ERROR_NOT_INITIALIZED, &name) == CUDA_SUCCESS);
  CHECK(std::string(name) == "CUDA_ERROR_NOT_INITIALIZED");
  CHECK(cuInit(0) == CUDA_SUCCESS);
  CHECK(cuDeviceGetCount(&count) == CUDA_SUCCESS);
  CHECK(count == 64);
  CHECK(cuStreamQuery(nullptr) == CUDA_ERROR_INVALID_CONTEXT);
}

TEST_CASE("child: without devices" * doctest::skip()) {
  int count = 0;
  CHECK(cuInit(0) == CUDA_ERROR_NO_DEVICE);
  CHECK(cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED);
}

TEST_CASE_FIXTURE(Fixture, "child: exits with work in its streams" * doctest::skip()) {
  for (int each = 0; each < 4; each++) {
    const CUdeviceptr memory = allocate(1 << 20);
    const CUstream stream = this->stream(each % 2);
    for (int turn = 0; turn < 1000; turn++) REQUIRE(cuMemsetD8Async(memory, 1, 1 << 20, stream) == CUDA_SUCCESS);
  }
  hold(CU_STREAM_PER_THREAD);
  std::exit(42);
}

TEST_CASE("before cuInit, without devices, and with wrong settings") {
  CHECK(run_case("child: nothing works before cuInit", {"NCCL_EMULATOR_DEVICES=64"}) == 0);
  CHECK(run_case("child: without devices", {"NCCL_EMULATOR_DEVICES=0"}) == 0);
  CHECK(run_case("child: without devices", {"NCCL_EMULATOR_DEVICES=many"}) == 2);
}

TEST_CASE("a process can exit while work is in its streams") {
  for (int turn = 0; turn < 3; turn++) CHECK(run_case("child: exits with work in its streams") == 42);
}

TEST_CASE_FIXTURE(Fixture, "the child of a fork cannot use the driver, and exits") {
  const CUstream stream = this->stream(CU_STREAM_DEFAULT);
  hold(CU_STREAM_PER_THREAD);
  hold(stream);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    CUdeviceptr memory = 0;
    const bool refused = cuInit(0) == CUDA_ERROR_NOT_INITIALIZED &&
                         cuMemAlloc_v2(&memory, 4) == CUDA_ERROR_NOT_INITIALIZED &&
                         cuStreamSynchronize(stream) == CUDA_ERROR_NOT_INITIALIZED;
    ::_exit(refused ? 7 : 8);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}
