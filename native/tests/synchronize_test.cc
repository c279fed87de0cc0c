// c10d_synchronize in every state of an op, and the times of ops.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "device_ranks.h"
#include "software_device/softdev.h"

using namespace c10d::test;

namespace {

constexpr size_t kFloats = 16;

/// A group in which rank 0 has a stream that waits for ops, and both ranks have a buffer.
struct Group {
  DeviceRanks ranks;
  DeviceBuffer x0{1, kFloats};
  DeviceBuffer x1{2, kFloats};
  DeviceBuffer seen{1, kFloats};
  DeviceStream consumer{1};

  explicit Group(const DeviceRanks::Settings& settings = {}) : ranks(2, settings) {
    softdev_set_seed(7, 200);
    x0.write(0, 1);
    x1.write(0, 2);
    softdev_stream_synchronize(1, 0, 20'000);
    softdev_stream_synchronize(2, 0, 20'000);
  }
  DeviceOp op0() const { return DeviceOp(C10D_OP_ALLREDUCE).out(x0); }
  DeviceOp op1() const { return DeviceOp(C10D_OP_ALLREDUCE).out(x1); }
  void copy() const { softdev_copy(1, consumer, seen.address(), x0.address(), x0.bytes()); }
};

std::string error_of_call() { return last_error(); }

}  // namespace

TEST_CASE("synchronize starts an op that is queued, and does not wait for its end") {
  Group group;
  // Without a kick: nothing else starts it.
  const auto id = group.ranks.submit(0, group.op0());
  CHECK(group.ranks.synchronize(0, id, group.consumer, 5'000) == C10D_OK);
  group.copy();
  CHECK(group.ranks.wait(0, id, 0) == C10D_ERR_WAIT_TIMEOUT);
  group.ranks.run(1, group.op1());
  CHECK(group.seen.holds(group.consumer, 3));
  CHECK(group.ranks.wait(0, id) == C10D_OK);
}

TEST_CASE("synchronize starts what is queued before the op, and nothing behind it") {
  Group group;
  const DeviceBuffer later(1, kFloats);
  const auto first = group.ranks.submit(0, group.op0());
  const auto id = group.ranks.submit(0, group.op0());
  group.ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE).out(later));
  CHECK(group.ranks.synchronize(0, id, group.consumer, 5'000) == C10D_OK);
  for (int i = 0; i < 3; i++) group.ranks.run(1, group.op1());
  CHECK(group.ranks.wait(0, first) == C10D_OK);
  CHECK(group.ranks.wait(0, id) == C10D_OK);
  CHECK(later.is_poison(0));
  // The third must still be started for rank 1 to end.
  CHECK(group.ranks.wait(0, id + 1) == C10D_OK);
}

TEST_CASE("synchronize times out on an op that cannot start in time, and the op continues") {
  Group group({"concurrency=1"});
  group.ranks.run(0, group.op0());
  const auto id = group.ranks.submit(0, group.op0());
  CHECK(group.ranks.synchronize(0, id, group.consumer, 20) == C10D_ERR_WAIT_TIMEOUT);
  CHECK(group.ranks.synchronize(0, id, group.consumer, 0) == C10D_ERR_WAIT_TIMEOUT);
  std::thread peer([&] {
    group.ranks.run(1, group.op1());
    group.ranks.run(1, group.op1());
  });
  // Once the first has ended, a worker starts it: this thread only waits for that.
  CHECK(group.ranks.synchronize(0, id, group.consumer) == C10D_OK);
  peer.join();
  group.copy();
  CHECK(group.seen.holds(group.consumer, 3 + 3));
  CHECK(group.ranks.wait(0, id) == C10D_OK);
}

TEST_CASE("synchronize has nothing to do for an op that has succeeded, seen by the host or not") {
  Group group;
  const auto id = group.ranks.run(0, group.op0());
  group.ranks.run(1, group.op1());
  CHECK(group.ranks.completion(1, 1));
  CHECK(group.ranks.synchronize(0, id, group.consumer) == C10D_OK);
  CHECK(group.ranks.wait(0, id) == C10D_OK);
  CHECK(group.ranks.synchronize(0, id, group.consumer) == C10D_OK);
  CHECK(group.ranks.wait(0, id) == C10D_ERR_UNKNOWN_OP);
  group.copy();
  CHECK(group.seen.holds(group.consumer, 3));
}

TEST_CASE("synchronize reports the failure of an op that has failed, even if it was taken before") {
  Group group;
  const auto id = group.ranks.run(0, group.op0().limit(30));
  CHECK(group.ranks.wait(0, id) == C10D_ERR_OP_TIMEOUT);
  CHECK(group.ranks.synchronize(0, id, group.consumer) == C10D_ERR_OP_TIMEOUT);
  CHECK(error_of_call() == "timed out after 30 ms of waiting for rank 1");
  // For a queued op that never starts, that of the group.
  CHECK(take_failure(group.ranks.group(0), static_cast<uint64_t>(id)).status == C10D_ERR_OP_TIMEOUT);
}

TEST_CASE("synchronize is woken when the op fails before it has started") {
  for (const bool by_abort : {true, false}) {
    CAPTURE(by_abort);
    Group group({"concurrency=1"});
    group.ranks.run(0, group.op0());
    const auto id = group.ranks.submit(0, by_abort ? group.op0() : group.op0().limit(50));
    std::thread aborter([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (by_abort) c10d_abort(group.ranks.group(0), C10D_ERR_ABORTED, "enough");
    });
    const int32_t expected = by_abort ? C10D_ERR_ABORTED : C10D_ERR_OP_TIMEOUT;
    CHECK(group.ranks.synchronize(0, id, group.consumer) == expected);
    aborter.join();
    c10d_event event{};
    CHECK(group.ranks.wait(0, id, 20'000, &event) == expected);
    CHECK(event.started_ns == 0);
  }
}

TEST_CASE("an op that never existed is unknown, and an unknown stream is refused without harm") {
  Group group;
  for (const int64_t id : {int64_t{0}, int64_t{1}, int64_t{99}}) {
    CHECK(group.ranks.synchronize(0, id, group.consumer, 0) == C10D_ERR_UNKNOWN_OP);
    CHECK(error_of_call() == "no such op");
  }
  const auto id = group.ranks.run(0, group.op0());
  CHECK(group.ranks.synchronize(0, id, 12345) == C10D_ERR_INVALID);
  CHECK(error_of_call() == "no such stream on cuda:1");
  const DeviceStream of_another(2);
  CHECK(group.ranks.synchronize(0, id, of_another) == C10D_ERR_INVALID);
  group.ranks.run(1, group.op1());
  CHECK(group.ranks.wait(0, id) == C10D_OK);
  CHECK(c10d_group_state(group.ranks.group(0)) == C10D_OPEN);
}

TEST_CASE("synchronize while workers start, drive and end ops") {
  constexpr int kOps = 150;
  for (const char* setting : {"concurrency=1", "concurrency=4", "descriptor=0"}) {
    CAPTURE(std::string(setting));
    Group group({setting});
    softdev_set_seed(3, 50);
    std::thread peer([&] {
      for (int i = 0; i < kOps; i++) CHECK(group.ranks.run(1, group.op1()) == i + 1);
    });
    for (int i = 0; i < kOps; i++) {
      const auto id = i % 3 == 0 ? group.ranks.submit(0, group.op0()) : group.ranks.run(0, group.op0());
      CHECK(group.ranks.synchronize(0, id, group.consumer) == C10D_OK);
      if (i % 5 == 0) CHECK(group.ranks.wait(0, id) == C10D_OK);
      CHECK(group.ranks.synchronize(0, id, group.consumer) == C10D_OK);
    }
    peer.join();
    CHECK(group.ranks.wait(0, kOps) == C10D_OK);
    CHECK(group.ranks.completion(1, kOps));
  }
}

TEST_CASE("times are those of the device") {
  Group group;
  const DeviceStream stream(1);
  Hold hold(1, stream);
  const auto submitted = c10d_clock_ns();
  const auto id = group.ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, stream).out(group.x0));
  group.ranks.run(1, group.op1());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto released = c10d_clock_ns();
  hold.release();
  c10d_event event{};
  CHECK(group.ranks.wait(0, id, 20'000, &event) == C10D_OK);
  const auto ended = c10d_clock_ns();
  // Not from when the engine got it, nor to when the host was notified.
  CHECK(event.started_ns >= released);
  CHECK(event.started_ns <= event.finished_ns);
  CHECK(event.finished_ns <= ended);
  const auto other = group.ranks.completion(1, 1);
  REQUIRE(other);
  CHECK(other->started_ns >= submitted);
  CHECK(other->started_ns < released);
  CHECK(other->finished_ns >= released);
  CHECK(other->finished_ns <= ended + 1'000'000'000);
}

TEST_CASE("an op without C10D_FLAG_TIMES has no times") {
  Group group;
  for (const bool timed : {true, false}) {
    auto record = group.op0().record(1);
    const c10d_buffer buffer{group.x0.address(), group.x0.bytes()};
    record.outputs = reinterpret_cast<uint64_t>(&buffer);
    if (!timed) record.flags &= ~uint32_t{C10D_FLAG_TIMES};
    const auto id = c10d_submit(group.ranks.group(0), &record, 1);
    group.ranks.run(1, group.op1());
    c10d_event event{};
    CHECK(group.ranks.wait(0, id, 20'000, &event) == C10D_OK);
    CHECK((event.started_ns > 0) == timed);
    CHECK((event.finished_ns > 0) == timed);
  }
}

TEST_CASE("an op that never started has no start time") {
  Group group({"concurrency=1"});
  const auto running = group.ranks.run(0, group.op0());
  const auto queued = group.ranks.submit(0, group.op0());
  c10d_abort(group.ranks.group(0), C10D_ERR_ABORTED, "enough");
  c10d_event event{};
  CHECK(group.ranks.wait(0, running, 20'000, &event) == C10D_ERR_ABORTED);
  CHECK(event.started_ns > 0);
  CHECK(event.finished_ns >= event.started_ns);
  CHECK(group.ranks.wait(0, queued, 20'000, &event) == C10D_ERR_ABORTED);
  CHECK(event.started_ns == 0);
}
