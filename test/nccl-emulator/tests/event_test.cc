#include <atomic>

#include "cuda_fixture.h"

using cuemu::test::Bytes;
using cuemu::test::Fixture;

TEST_CASE_FIXTURE(Fixture, "an event is complete when what is before it is done") {
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  CHECK(cuEventQuery(event) == CUDA_SUCCESS);
  CHECK(cuEventSynchronize(event) == CUDA_SUCCESS);
  const uint64_t held = hold(stream);
  REQUIRE(cuEventRecord(event, stream) == CUDA_SUCCESS);
  CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
  cuemu_release(held);
  CHECK(cuEventSynchronize(event) == CUDA_SUCCESS);
  CHECK(cuEventQuery(event) == CUDA_SUCCESS);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a wait is for the event as it was at the call") {
  const CUstream first = stream();
  const CUstream second = stream();
  const CUstream waiter = stream();
  const CUevent event = this->event();
  // Not recorded yet: no wait.
  REQUIRE(cuStreamWaitEvent(waiter, event, 0) == CUDA_SUCCESS);
  const uint64_t hold_first = hold(first);
  const uint64_t hold_second = hold(second);
  REQUIRE(cuEventRecord(event, first) == CUDA_SUCCESS);
  CHECK(cuStreamSynchronize(waiter) == CUDA_SUCCESS);
  REQUIRE(cuStreamWaitEvent(waiter, event, 0) == CUDA_SUCCESS);
  REQUIRE(cuEventRecord(event, second) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(waiter) == CUDA_ERROR_NOT_READY);
  // The second record does not matter for the wait, nor does the end of the event.
  cuemu_release(hold_first);
  CHECK(cuStreamSynchronize(waiter) == CUDA_SUCCESS);
  CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
  REQUIRE(cuStreamWaitEvent(waiter, event, 0) == CUDA_SUCCESS);
  CHECK(cuEventDestroy_v2(event) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(waiter) == CUDA_ERROR_NOT_READY);
  cuemu_release(hold_second);
  CHECK(cuStreamSynchronize(waiter) == CUDA_SUCCESS);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "elapsed time") {
  const CUstream stream = this->stream();
  const CUevent start = event(CU_EVENT_DEFAULT);
  const CUevent end = event(CU_EVENT_DEFAULT);
  const CUevent untimed = event();
  float milliseconds = -1;
  CHECK(cuEventElapsedTime(&milliseconds, start, end) == CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(cuEventRecord(start, stream) == CUDA_SUCCESS);
  REQUIRE(cuEventRecord(untimed, stream) == CUDA_SUCCESS);
  const uint64_t held = hold(stream);
  REQUIRE(cuEventRecord(end, stream) == CUDA_SUCCESS);
  CHECK(cuEventElapsedTime(&milliseconds, start, end) == CUDA_ERROR_NOT_READY);
  cuemu_release(held);
  CHECK(cuEventSynchronize(end) == CUDA_SUCCESS);
  CHECK(cuEventElapsedTime(&milliseconds, start, end) == CUDA_SUCCESS);
  CHECK(milliseconds > 0);
  float back = 0;
  CHECK(cuEventElapsedTime(&back, end, start) == CUDA_SUCCESS);
  CHECK(back == -milliseconds);
  CHECK(cuEventElapsedTime(&milliseconds, start, untimed) == CUDA_ERROR_INVALID_HANDLE);
}

TEST_CASE_FIXTURE(Fixture, "events order streams of several devices") {
  CUcontext other_context = nullptr;
  REQUIRE(cuDevicePrimaryCtxRetain(&other_context, 1) == CUDA_SUCCESS);
  REQUIRE(cuCtxSetCurrent(other_context) == CUDA_SUCCESS);
  const CUdeviceptr there = allocate(4);
  const CUstream producer = stream();
  const CUevent produced = event();
  REQUIRE(cuMemsetD8Async(there, 3, 4, producer) == CUDA_SUCCESS);
  REQUIRE(cuEventRecord(produced, producer) == CUDA_SUCCESS);
  REQUIRE(cuCtxSetCurrent(context) == CUDA_SUCCESS);
  const CUdeviceptr here = allocate(4);
  const CUstream consumer = stream();
  REQUIRE(cuStreamWaitEvent(consumer, produced, 0) == CUDA_SUCCESS);
  REQUIRE(cuMemcpyDtoDAsync_v2(here, there, 4, consumer) == CUDA_SUCCESS);
  CHECK(read(here, 4) == Bytes(4, 3));
  CHECK(faults() == 0);
  CHECK(cuEventRecord(produced, consumer) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(faults() == 1);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
}

TEST_CASE_FIXTURE(Fixture, "a stream that does not wait for what it reads sees poison") {
  const CUdeviceptr from = allocate(4);
  const CUdeviceptr to = allocate(4);
  const CUstream producer = stream();
  const CUstream consumer = stream();
  const uint64_t held = hold(producer);
  REQUIRE(cuMemsetD8Async(from, 1, 4, producer) == CUDA_SUCCESS);
  REQUIRE(cuMemcpyDtoDAsync_v2(to, from, 4, consumer) == CUDA_SUCCESS);
  CHECK(cuStreamSynchronize(consumer) == CUDA_SUCCESS);
  cuemu_release(held);
  CHECK(read(to, 4) == Bytes(4, 0xdb));
  CHECK(read(from, 4) == Bytes(4, 1));
}

namespace {

/// Two streams with a host function each; returns whether that of the second stream came last.
bool is_in_order(CUstream first, CUstream second, CUevent between) {
  struct Place {
    std::atomic<int>& counter;
    int place = -1;
  };
  std::atomic<int> counter{0};
  Place before{counter};
  Place after{counter};
  const CUhostFn take = [](void* data) {
    auto* const place = static_cast<Place*>(data);
    place->place = place->counter++;
  };
  REQUIRE(cuLaunchHostFunc(first, take, &before) == CUDA_SUCCESS);
  if (between != nullptr) {
    REQUIRE(cuEventRecord(between, first) == CUDA_SUCCESS);
    REQUIRE(cuStreamWaitEvent(second, between, 0) == CUDA_SUCCESS);
  }
  REQUIRE(cuLaunchHostFunc(second, take, &after) == CUDA_SUCCESS);
  REQUIRE(cuCtxSynchronize() == CUDA_SUCCESS);
  CHECK(before.place + after.place == 1);
  return before.place < after.place;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "delays put work of streams that do not wait in any order, of those that do in one") {
  const CUstream first = stream();
  const CUstream second = stream();
  const CUevent event = this->event();
  bool seen[2] = {false, false};
  for (int turn = 0; turn < 10'000 && !(seen[0] && seen[1]); turn++) seen[is_in_order(first, second, nullptr)] = true;
  CHECK(seen[0]);
  CHECK(seen[1]);
  for (int turn = 0; turn < 100; turn++) CHECK(is_in_order(first, second, event));
}
