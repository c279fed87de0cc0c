// What tests of the emulated driver start with.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "driver_api.h"

namespace cuemu::test {

inline std::string last_fault() {
  char text[600] = "";
  cuemu_last_fault(text, sizeof text);
  return text;
}

/// A context of device 0 in this thread, and the faults since.
class Fixture {
 public:
  Fixture() {
    REQUIRE(cuInit(0) == CUDA_SUCCESS);
    REQUIRE(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    REQUIRE(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    faults_ = cuemu_faults();
  }
  ~Fixture() {
    for (const uint64_t hold : holds_) cuemu_release(hold);
    CHECK(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    CHECK(cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS);
    CHECK(cuCtxSetCurrent(nullptr) == CUDA_SUCCESS);
    CHECK(cuemu_blocks() == 0);
    CHECK(cuemu_streams() == 0);
    CHECK(cuemu_events() == 0);
  }
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;

  /// Faults since the last time.
  uint64_t faults() {
    const uint64_t before = faults_;
    faults_ = cuemu_faults();
    return faults_ - before;
  }

  static CUdeviceptr allocate(size_t bytes) {
    CUdeviceptr address = 0;
    REQUIRE(cuMemAlloc_v2(&address, bytes) == CUDA_SUCCESS);
    return address;
  }
  static uint8_t* allocate_pinned(size_t bytes) {
    void* address = nullptr;
    REQUIRE(cuMemHostAlloc(&address, bytes, 0) == CUDA_SUCCESS);
    return static_cast<uint8_t*>(address);
  }
  static CUstream stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
    CUstream stream = nullptr;
    REQUIRE(cuStreamCreateWithPriority(&stream, flags, 0) == CUDA_SUCCESS);
    return stream;
  }
  static CUevent event(unsigned flags = CU_EVENT_DISABLE_TIMING) {
    CUevent event = nullptr;
    REQUIRE(cuEventCreate(&event, flags) == CUDA_SUCCESS);
    return event;
  }
  /// Held until released, or the end of the test.
  uint64_t hold(CUstream stream) {
    const uint64_t hold = cuemu_hold(0, stream);
    REQUIRE(hold != 0);
    holds_.push_back(hold);
    return hold;
  }
  /// What is there when all work before, in any stream, is done.
  static std::vector<uint8_t> read(CUdeviceptr address, size_t bytes) {
    std::vector<uint8_t> data(bytes);
    REQUIRE(cuCtxSynchronize() == CUDA_SUCCESS);
    REQUIRE(cuMemcpyDtoH_v2(data.data(), address, bytes) == CUDA_SUCCESS);
    return data;
  }

  CUcontext context = nullptr;

 private:
  uint64_t faults_ = 0;
  std::vector<uint64_t> holds_;
};

using Bytes = std::vector<uint8_t>;

}  // namespace cuemu::test
