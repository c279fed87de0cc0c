#include <atomic>
#include <set>
#include <thread>

#include "cuda_fixture.h"

using cuemu::test::Bytes;
using cuemu::test::Fixture;
using cuemu::test::last_fault;

namespace {

/// Counts what happens to a piece of work.
struct Work {
  std::atomic<int> runs{0};
  std::atomic<int> frees{0};
  int result = 0;
  uint8_t* writes_to = nullptr;

  static int run(void* data) {
    auto* const work = static_cast<Work*>(data);
    if (work->writes_to != nullptr) *work->writes_to = 5;
    work->runs++;
    return work->result;
  }
  static void free(void* data) { static_cast<Work*>(data)->frees++; }
};

}  // namespace

TEST_CASE_FIXTURE(Fixture, "work of others runs in order, on a thread of the stream, and its data is freed") {
  const CUdeviceptr memory = allocate(4);
  const CUstream stream = this->stream();
  Work work;
  work.writes_to = static_cast<uint8_t*>(cuemu_alias(0, memory + 1, 1));
  REQUIRE(work.writes_to != nullptr);
  const uint64_t held = hold(stream);
  REQUIRE(cuemu_enqueue(0, stream, "write", Work::run, Work::free, &work) == CUDA_SUCCESS);
  REQUIRE(cuMemsetD8Async(memory + 2, 6, 1, stream) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(stream) == CUDA_ERROR_NOT_READY);
  CHECK(work.runs == 0);
  cuemu_release(held);
  CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
  CHECK(work.runs == 1);
  CHECK(work.frees == 1);
  CHECK(read(memory, 4) == Bytes{0xdb, 5, 6, 0xdb});
  CHECK(cuemu_enqueue(7, nullptr, "write", Work::run, Work::free, &work) == CUDA_ERROR_INVALID_DEVICE);
  CHECK(cuemu_enqueue(1, stream, "write", Work::run, Work::free, &work) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(work.frees == 1);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "declared memory may not be freed before the work has ended, and stays until then") {
  const CUdeviceptr memory = allocate(4);
  const CUdeviceptr other = allocate(4);
  const CUstream stream = this->stream();
  Work work;
  work.writes_to = static_cast<uint8_t*>(cuemu_alias(0, memory, 4));
  const uint64_t held = hold(stream);
  cuemu_uses(memory, 4);
  REQUIRE(cuemu_enqueue(0, stream, "ncclAllReduce", Work::run, nullptr, &work) == CUDA_SUCCESS);
  // It is for the next work only.
  REQUIRE(cuemu_enqueue(0, stream, "other", Work::run, nullptr, &work) == CUDA_SUCCESS);
  CHECK(cuMemFree_v2(other) == CUDA_SUCCESS);
  CHECK(faults() == 0);
  CHECK(cuMemFree_v2(memory) == CUDA_SUCCESS);
  CHECK(faults() == 1);
  CHECK(last_fault().find("ncclAllReduce") != std::string::npos);
  cuemu_release(held);
  CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
  CHECK(work.runs == 2);
}

TEST_CASE_FIXTURE(Fixture, "a stream of another device is refused") {
  CUcontext other_context = nullptr;
  REQUIRE(cuDevicePrimaryCtxRetain(&other_context, 1) == CUDA_SUCCESS);
  const CUstream stream = this->stream();
  CHECK(cuemu_enqueue(1, stream, "work", Work::run, nullptr, nullptr) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(faults() == 1);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
}

TEST_CASE_FIXTURE(Fixture, "a broken device: calls fail, waits end, work is discarded; until it is repaired") {
  const CUdeviceptr memory = allocate(4);
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  Work work;
  const uint64_t held = hold(stream);
  REQUIRE(cuemu_enqueue(0, stream, "work", Work::run, Work::free, &work) == CUDA_SUCCESS);
  REQUIRE(cuEventRecord(event, stream) == CUDA_SUCCESS);
  CUresult result = -1;
  std::thread waiter([&] {
    REQUIRE(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    result = cuStreamSynchronize(stream);
  });
  cuemu_break(0, CUDA_ERROR_ILLEGAL_ADDRESS);
  waiter.join();
  CHECK(result == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuemu_broken(0) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuemu_broken(1) == CUDA_SUCCESS);
  CUdeviceptr more = 0;
  CHECK(cuMemAlloc_v2(&more, 4) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuMemFree_v2(memory) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuEventQuery(event) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuEventSynchronize(event) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuStreamQuery(stream) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuemu_enqueue(0, stream, "work", Work::run, Work::free, &work) == CUDA_ERROR_ILLEGAL_ADDRESS);
  cuemu_break(0, 719);
  CHECK(cuStreamQuery(stream) == CUDA_ERROR_ILLEGAL_ADDRESS);
  while (work.frees == 0) std::this_thread::yield();
  cuemu_break(0, CUDA_SUCCESS);
  CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
  CHECK(work.runs == 0);
  CHECK(work.frees == 1);
  cuemu_release(held);
  CHECK(cuMemsetD8_v2(memory, 1, 4) == CUDA_SUCCESS);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "what belongs to a broken device fails, also where another one is current") {
  CUcontext other_context = nullptr;
  REQUIRE(cuDevicePrimaryCtxRetain(&other_context, 1) == CUDA_SUCCESS);
  const CUstream stream = this->stream();
  const CUevent event = this->event();
  REQUIRE(cuCtxSetCurrent(other_context) == CUDA_SUCCESS);
  cuemu_break(0, CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuStreamQuery(nullptr) == CUDA_SUCCESS);
  CHECK(cuStreamQuery(stream) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuEventQuery(event) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuStreamWaitEvent(nullptr, event, 0) == CUDA_ERROR_ILLEGAL_ADDRESS);
  cuemu_break(0, CUDA_SUCCESS);
  CHECK(cuStreamQuery(stream) == CUDA_SUCCESS);
  CHECK(cuDevicePrimaryCtxRelease_v2(1) == CUDA_SUCCESS);
  CHECK(faults() == 0);
}

TEST_CASE_FIXTURE(Fixture, "a stream that a broken device has emptied may be destroyed before what it waited for") {
  const CUstream stream = this->stream();
  Work work;
  const uint64_t held = hold(stream);
  REQUIRE(cuemu_enqueue(0, stream, "work", Work::run, Work::free, &work) == CUDA_SUCCESS);
  CHECK(cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
  cuemu_break(0, CUDA_ERROR_ILLEGAL_ADDRESS);
  while (work.frees == 0) std::this_thread::yield();
  cuemu_break(0, CUDA_SUCCESS);
  CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
  CHECK(cuemu_release(held) == 0);
}

TEST_CASE_FIXTURE(Fixture, "work that fails breaks its device") {
  const CUstream stream = this->stream();
  Work work;
  work.result = 719;
  REQUIRE(cuemu_enqueue(0, stream, "fails", Work::run, nullptr, &work) == CUDA_SUCCESS);
  CHECK(cuStreamSynchronize(stream) == 719);
  CHECK(cuCtxSynchronize() == 719);
  cuemu_break(0, CUDA_SUCCESS);
  CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
}

TEST_CASE_FIXTURE(Fixture, "holds, random numbers, faults") {
  CHECK(cuemu_release(0) == -1);
  const uint64_t held = hold(nullptr);
  CHECK(cuemu_release(held) == 0);
  CHECK(cuemu_release(held) == -1);
  std::set<uint64_t> seen;
  for (int turn = 0; turn < 100; turn++) {
    seen.insert(cuemu_random("a name"));
    seen.insert(cuemu_random("another name"));
  }
  CHECK(seen.size() == 200);
  char text[8] = "";
  cuemu_report("something is wrong");
  CHECK(cuemu_last_fault(text, sizeof text) == 18);
  CHECK(std::string(text) == "somethi");
  CHECK(cuemu_fault(cuemu_faults() - 1, text, sizeof text) == 18);
  CHECK(cuemu_fault(cuemu_faults(), text, sizeof text) == -1);
  CHECK(faults() == 1);
}
