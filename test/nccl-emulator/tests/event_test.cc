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

namespace {

/// One stream writes, another copies; returns what is copied.
uint8_t produce_and_consume(bool waits) {
  const CUdeviceptr from = Fixture::allocate(1);
  const CUdeviceptr to = Fixture::allocate(1);
  const CUstream producer = Fixture::stream();
  const CUstream consumer = Fixture::stream();
  const CUevent produced = Fixture::event();
  REQUIRE(cuMemsetD8Async(from, 1, 1, producer) == CUDA_SUCCESS);
  REQUIRE(cuEventRecord(produced, producer) == CUDA_SUCCESS);
  if (waits) REQUIRE(cuStreamWaitEvent(consumer, produced, 0) == CUDA_SUCCESS);
  REQUIRE(cuMemcpyDtoDAsync_v2(to, from, 1, consumer) == CUDA_SUCCESS);
  const uint8_t result = Fixture::read(to, 1)[0];
  for (const CUstream stream : {producer, consumer}) CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
  for (const CUdeviceptr memory : {from, to}) CHECK(cuMemFree_v2(memory) == CUDA_SUCCESS);
  CHECK(cuEventDestroy_v2(produced) == CUDA_SUCCESS);
  return result;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a stream that does not wait for what it reads sees poison sooner or later") {
  for (int turn = 0; turn < 50; turn++) CHECK(produce_and_consume(true) == 1);
  bool saw_poison = false;
  for (int turn = 0; turn < 1000 && !saw_poison; turn++) saw_poison = produce_and_consume(false) == 0xdb;
  CHECK(saw_poison);
}
