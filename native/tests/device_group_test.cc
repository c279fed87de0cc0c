// Groups over software devices: what they take, how they end, splits and services.
#include <doctest/doctest.h>

#include <thread>

#include "device_ranks.h"
#include "software_device/softdev.h"

using namespace c10d::test;

namespace {

constexpr size_t kFloats = 8;

c10d_capabilities capabilities_of(c10d_group* group) {
  c10d_capabilities all{};
  c10d_group_capabilities(group, &all, sizeof all);
  return all;
}

}  // namespace

TEST_CASE("a bad address or another device's is refused, and so is an unknown stream") {
  DeviceRanks ranks(2);
  const DeviceBuffer own(1, kFloats), others(2, kFloats);
  CHECK(ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE).out(others)) == C10D_ERR_INVALID);
  CHECK(last_error().find("are not in memory of cuda:1") != std::string::npos);
  CHECK(ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE, 77).out(own)) == C10D_ERR_INVALID);
  CHECK(last_error() == "no such stream on cuda:1");
  const auto op = DeviceOp(C10D_OP_ALLREDUCE).out(own);
  auto record = op.record(2);
  CHECK(c10d_submit(ranks.group(0), &record, 1) == C10D_ERR_INVALID);
  CHECK(last_error() == "the tensors are on device cuda:2, but the group is on cuda:1");
  float host[kFloats];
  record.device_index = 1;
  CHECK(c10d_submit_one(ranks.group(0), &record, nullptr, host) == C10D_ERR_INVALID);
}

TEST_CASE("memory that is freed during an op fails the op, on this rank and for its peer") {
  DeviceRanks ranks(2);
  const DeviceBuffer x1(2, kFloats);
  const DeviceStream stream(1);
  Hold hold(1, stream);
  int64_t id = 0;
  {
    const DeviceBuffer x0(1, kFloats);
    id = ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, stream).out(x0));
  }
  const auto other = ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE).out(x1));
  hold.release();
  CHECK(ranks.wait(0, id) == C10D_ERR_BACKEND);
  CHECK(take_failure(ranks.group(0), 1).text.find("bad address on the device: 32 bytes at 0x") == 0);
  CHECK(ranks.wait(1, other) == C10D_ERR_NETWORK);
  CHECK(take_failure(ranks.group(1), 1).peer == 0);
}

TEST_CASE("calls that do not match are found by both ranks, with the same text") {
  struct Case {
    c10d_opcode first, second;
    size_t floats;
    const char* text;
    uint32_t kind;
  };
  constexpr Case kCases[] = {
      {C10D_OP_ALLREDUCE, C10D_OP_ALLREDUCE, kFloats / 2,
       "rank 0 called allReduce(float32[8], SUM) as collective #1, rank 1 called allReduce(float32[4], SUM). ",
       C10D_MISMATCH_CALL},
      {C10D_OP_ALLREDUCE, C10D_OP_BROADCAST, kFloats,
       "rank 0 called allReduce(float32[8], SUM) as collective #1, rank 1 called broadcast(float32[8], root 0). ",
       C10D_MISMATCH_CALL},
      {C10D_OP_SEND, C10D_OP_RECV, kFloats / 2, "rank 0 sent float32[8] with tag 0, rank 1 was to receive float32[4]",
       C10D_MISMATCH_MESSAGE},
  };
  for (const auto& one : kCases) {
    DeviceRanks ranks(2);
    const DeviceBuffer x0(1, kFloats), x1(2, one.floats);
    const bool message = one.first == C10D_OP_SEND;
    auto first = DeviceOp(one.first).peer(message ? 1 : 0);
    const auto id0 = ranks.run(0, message ? first.in(x0) : first.out(x0));
    const auto id1 = ranks.run(1, DeviceOp(one.second).peer(0).out(x1));
    CHECK(ranks.wait(1, id1) == C10D_ERR_DESYNC);
    const auto failure = take_failure(ranks.group(1), static_cast<uint64_t>(id1));
    CHECK(failure.text.find(one.text) == 0);
    CHECK(failure.mismatch == one.kind);
    CHECK(failure.ranks == std::vector<int32_t>{1, 0});
    if (message) continue;
    CHECK(ranks.wait(0, id0) == C10D_ERR_DESYNC);
    const auto other = take_failure(ranks.group(0), static_cast<uint64_t>(id0));
    CHECK(other.text == failure.text);
    CHECK(other.ranks == std::vector<int32_t>{0, 1});
  }
}

TEST_CASE("a rank that fails or leaves ends the others' ops, and an abort ends all, whatever the device waits for") {
  for (const bool aborts : {true, false}) {
    CAPTURE(aborts);
    DeviceRanks ranks(3);
    const DeviceBuffer x0(1, kFloats), x1(2, kFloats);
    const DeviceStream stream(1);
    const Hold hold(1, stream);
    const auto stuck = ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, stream).out(x0));
    const auto waiting = ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE).out(x1));
    if (aborts) c10d_abort(ranks.group(2), C10D_ERR_ABORTED, "enough");
    if (!aborts) CHECK(ranks.close(2) == 0);
    CHECK(ranks.wait(1, waiting) == C10D_ERR_NETWORK);
    CHECK(take_failure(ranks.group(1), 1).peer == 2);
    // The loss reaches rank 0 too, whose own stream is blocked.
    CHECK(ranks.wait(0, stuck) == C10D_ERR_NETWORK);
    CHECK(c10d_group_state(ranks.group(0)) == C10D_FAILED);
  }
}

TEST_CASE("messages are in their order among collectives, or at once where they overtake") {
  for (const bool overtake : {false, true}) {
    CAPTURE(overtake);
    DeviceRanks ranks(2, {overtake ? "messages=overtake" : "messages=in-order"});
    CHECK(((capabilities_of(ranks.group(0)).flags & C10D_CAN_OVERTAKE_COLLECTIVES) != 0) == overtake);
    const DeviceBuffer x0(1, kFloats), x1(2, kFloats), sent(1, kFloats), received(2, kFloats);
    sent.write(0, 5);
    softdev_stream_synchronize(1, 0, 20'000);
    const auto collective = ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE).out(x0));
    const auto send = ranks.submit(0, DeviceOp(C10D_OP_SEND).in(sent).peer(1).tag(3));
    c10d_kick(ranks.group(0));
    // Rank 1 receives before the collective.
    const auto recv = ranks.run(1, DeviceOp(C10D_OP_RECV).out(received).peer(0).tag(3));
    c10d_event event{};
    CHECK(ranks.wait(1, recv, overtake ? 20'000 : 30, &event) == (overtake ? C10D_OK : C10D_ERR_WAIT_TIMEOUT));
    if (!overtake) {
      // Both wait for each other, as on a stream, until an abort.
      CHECK(ranks.wait(0, send, 0) == C10D_ERR_WAIT_TIMEOUT);
      continue;
    }
    CHECK(event.peer == 0);
    CHECK(received.holds(0, 5));
    ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE).out(x1));
    CHECK(ranks.wait(0, collective) == C10D_OK);
    CHECK(ranks.wait(0, send) == C10D_OK);
  }
}

TEST_CASE("a batch of messages both ways and collectives does not wait for itself") {
  for (const char* setting : {"messages=in-order", "messages=overtake"}) {
    CAPTURE(std::string(setting));
    DeviceRanks ranks(2, {setting});
    const DeviceBuffer x0(1, kFloats), x1(2, kFloats), in0(1, kFloats), in1(2, kFloats);
    const auto batch = [&](int32_t other, const DeviceBuffer& x, const DeviceBuffer& in) {
      return std::vector<DeviceOp>{DeviceOp(C10D_OP_RECV).out(in).peer(other), DeviceOp(C10D_OP_ALLREDUCE).out(x),
                                   DeviceOp(C10D_OP_SEND).in(in).peer(other), DeviceOp(C10D_OP_BARRIER)};
    };
    x0.write(0, 1);
    x1.write(0, 2);
    softdev_stream_synchronize(1, 0, 20'000);
    softdev_stream_synchronize(2, 0, 20'000);
    CHECK(ranks.submit(0, batch(1, x0, in0)) == 1);
    CHECK(ranks.submit(1, batch(0, x1, in1)) == 1);
    for (int32_t rank = 0; rank < 2; rank++) c10d_kick(ranks.group(rank));
    for (int64_t id = 1; id <= 4; id++) {
      CHECK(ranks.wait(0, id) == C10D_OK);
      CHECK(ranks.wait(1, id) == C10D_OK);
    }
    CHECK(x0.holds(0, 3));
    CHECK(x1.holds(0, 3));
  }
}

TEST_CASE("split by color; a rank with a negative one is in no group") {
  DeviceRanks parent(4);
  {
    DeviceRanks parts(parent, {7, 3, 7, -1});
    for (int32_t rank = 0; rank < 4; rank++) CHECK(parts.ready(rank).status == C10D_OK);
    std::vector<std::unique_ptr<DeviceBuffer>> x;
    for (int32_t rank = 0; rank < 4; rank++) {
      x.push_back(std::make_unique<DeviceBuffer>(rank + 1, kFloats));
      x.back()->write(0, static_cast<float>(rank + 1));
      softdev_stream_synchronize(rank + 1, 0, 20'000);
    }
    for (int32_t rank = 0; rank < 3; rank++) CHECK(parts.run(rank, DeviceOp(C10D_OP_ALLREDUCE).out(*x[rank])) == 1);
    CHECK(parts.submit(3, DeviceOp(C10D_OP_ALLREDUCE).out(*x[3])) == C10D_ERR_INVALID);
    for (int32_t rank = 0; rank < 3; rank++) CHECK(parts.wait(rank, 1) == C10D_OK);
    CHECK(x[0]->holds(0, 4));
    CHECK(x[1]->holds(0, 2));
    CHECK(x[2]->holds(0, 4));
    // The parent can be used meanwhile.
    for (int32_t rank = 0; rank < 4; rank++) CHECK(parent.run(rank, DeviceOp(C10D_OP_ALLREDUCE).out(*x[rank])) == 1);
    for (int32_t rank = 0; rank < 4; rank++) CHECK(parent.wait(rank, 1) == C10D_OK);
    CHECK(x[3]->holds(0, 4 + 2 + 4 + 4));
    // The new groups can be used without it, once they are ready.
    for (int32_t rank = 0; rank < 4; rank++) CHECK(parent.close(rank) == 0);
    for (const int32_t rank : {0, 2}) CHECK(parts.run(rank, DeviceOp(C10D_OP_ALLREDUCE).out(*x[rank])) == 2);
    for (const int32_t rank : {0, 2}) CHECK(parts.wait(rank, 2) == C10D_OK);
    CHECK(x[0]->holds(0, 28));
  }
}

TEST_CASE("a group is not split while it has an op in flight, if the backend cannot split, or once it has failed") {
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 1;
  config.device_type = C10D_DEVICE_CUDA;
  config.device_index = 1;
  {
    DeviceRanks ranks(2);
    const DeviceBuffer x(1, kFloats), y(2, kFloats);
    const auto refused = [&](int32_t status, const char* text) {
      CHECK(c10d_split(ranks.group(0), &config) == nullptr);
      CHECK(last_failure().status == status);
      CHECK(last_error() == text);
    };
    constexpr const char* kBusy = "a group can be split only while it has no op in flight";
    const auto queued = ranks.submit(0, DeviceOp(C10D_OP_ALLREDUCE).out(x));
    refused(C10D_ERR_INVALID, kBusy);
    c10d_kick(ranks.group(0));
    refused(C10D_ERR_INVALID, kBusy);
    ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE).out(y));
    CHECK(ranks.wait(0, queued) == C10D_OK);
    config.rank = 1;
    refused(C10D_ERR_INVALID, "rank must be in 0..world_size-1");
    config.rank = 0;
    config.size = 4;
    refused(C10D_ERR_INVALID, "c10d_config.size is 4: it must be the size of the struct in bytes");
    config.size = sizeof config;
    c10d_abort(ranks.group(0), C10D_ERR_ABORTED, "enough");
    refused(C10D_ERR_GROUP_FAILED, "enough");
  }
  DeviceRanks ranks(1, {"split=0"});
  CHECK((capabilities_of(ranks.group(0)).flags & C10D_CAN_SPLIT) == 0);
  CHECK(c10d_split(ranks.group(0), &config) == nullptr);
  CHECK(last_failure().status == C10D_ERR_UNSUPPORTED);
}

TEST_CASE("a split that a rank does not join ends at its time limit, or when that rank leaves the parent") {
  DeviceRanks ranks(2);
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 2;
  config.device_type = C10D_DEVICE_CUDA;
  config.device_index = 1;
  config.timeout_ms = 30;
  const auto status_of = [](c10d_group* group) {
    c10d_event event{};
    while (c10d_drain(group, &event, sizeof event, 1) == 0) std::this_thread::yield();
    CHECK(event.kind == C10D_EVENT_READY);
    CHECK(c10d_close(group, 20'000) == 0);
    return event.status;
  };
  CHECK(status_of(c10d_split(ranks.group(0), &config)) == C10D_ERR_OP_TIMEOUT);
  config.timeout_ms = 20'000;
  c10d_group* const part = c10d_split(ranks.group(0), &config);
  CHECK(ranks.close(1) == 0);
  CHECK(status_of(part) == C10D_ERR_NETWORK);
}

TEST_CASE("services in the order of ops: memory is registered, windows give access to the peers") {
  DeviceRanks ranks(2);
  CHECK(capabilities_of(ranks.group(0)).services ==
        (uint64_t{1} << C10D_SERVICE_REGISTER_MEMORY | uint64_t{1} << C10D_SERVICE_DEREGISTER_MEMORY |
         uint64_t{1} << C10D_SERVICE_OPEN_WINDOW | uint64_t{1} << C10D_SERVICE_CLOSE_WINDOW));
  const DeviceBuffer x0(1, kFloats), x1(2, kFloats), seen(1, kFloats);
  // Of this rank alone.
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_SERVICE_REGISTER_MEMORY).out(x0))) == C10D_OK);
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_SERVICE_REGISTER_MEMORY).out(x0))) == C10D_ERR_INVALID);
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_SERVICE_DEREGISTER_MEMORY).out(x0))) == C10D_OK);
  CHECK(ranks.wait(0, ranks.run(0, DeviceOp(C10D_SERVICE_DEREGISTER_MEMORY).out(x0))) == C10D_ERR_INVALID);
  CHECK(take_failure(ranks.group(0), 4).text == "the memory is not registered");
  CHECK(c10d_group_state(ranks.group(0)) == C10D_OPEN);
  // Collective.
  CHECK(c10d_window_address(ranks.group(0), x0.address(), 1) == 0);
  const auto opened = ranks.run(0, DeviceOp(C10D_SERVICE_OPEN_WINDOW).out(x0));
  CHECK(ranks.wait(0, opened, 20) == C10D_ERR_WAIT_TIMEOUT);
  CHECK(ranks.wait(1, ranks.run(1, DeviceOp(C10D_SERVICE_OPEN_WINDOW).out(x1))) == C10D_OK);
  CHECK(ranks.wait(0, opened) == C10D_OK);
  const auto peer = c10d_window_address(ranks.group(0), x0.address(), 1);
  CHECK(peer == x1.address());
  CHECK(c10d_window_address(ranks.group(0), x0.address(), 0) == x0.address());
  CHECK(c10d_window_address(ranks.group(1), x1.address(), 0) == x0.address());
  for (const int32_t rank : {-1, 2}) CHECK(c10d_window_address(ranks.group(0), x0.address(), rank) == 0);
  x1.write(0, 9);
  softdev_stream_synchronize(2, 0, 20'000);
  softdev_copy(1, 0, seen.address(), peer, x1.bytes());
  CHECK(seen.holds(0, 9));
  for (int32_t rank = 0; rank < 2; rank++)
    ranks.run(rank, DeviceOp(C10D_SERVICE_CLOSE_WINDOW).out(rank == 0 ? x0 : x1));
  CHECK(ranks.wait(0, opened + 1) == C10D_OK);
  CHECK(c10d_window_address(ranks.group(0), x0.address(), 1) == 0);
}

TEST_CASE("a collective service is compared like any other call, and takes its turn") {
  DeviceRanks ranks(2);
  const DeviceBuffer x0(1, kFloats), x1(2, kFloats);
  // Of one rank alone: no turn.
  ranks.run(0, DeviceOp(C10D_SERVICE_REGISTER_MEMORY).out(x0));
  const auto id = ranks.run(0, DeviceOp(C10D_SERVICE_OPEN_WINDOW).out(x0));
  ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE).out(x1));
  CHECK(ranks.wait(0, id) == C10D_ERR_DESYNC);
  const auto text = take_failure(ranks.group(0), static_cast<uint64_t>(id)).text;
  CHECK(text.find("rank 0 called openWindow(float32) as collective #1, rank 1 called allReduce(float32[8], SUM)") == 0);
}

TEST_CASE("what is not announced is refused") {
  DeviceRanks ranks(1, {"services=0", "batches=0", "concurrency=3"});
  const auto all = capabilities_of(ranks.group(0));
  CHECK(all.services == 0);
  CHECK(all.concurrency == 3);
  CHECK(all.flags == (C10D_CAN_SYNCHRONIZE | C10D_CAN_SPLIT));
  CHECK((all.ops & uint64_t{1} << C10D_OP_ALLREDUCE) != 0);
  CHECK((all.ops & uint64_t{1} << C10D_OP_RECV_ANY_SOURCE) == 0);
  const DeviceBuffer x(1, kFloats);
  CHECK(ranks.submit(0, DeviceOp(C10D_SERVICE_OPEN_WINDOW).out(x)) == C10D_ERR_UNSUPPORTED);
  CHECK(last_error() == "the backend has no such service");
  CHECK(ranks.submit(0, DeviceOp(C10D_OP_RECV_ANY_SOURCE).out(x)) == C10D_ERR_UNSUPPORTED);
}

TEST_CASE("a library that cannot be used says why") {
  char version[32];
  CHECK(c10d_probe(version, sizeof version) == 19);
  softdev_make_unavailable("no driver: libsoftdev.so.1 is missing");
  CHECK(c10d_probe(version, sizeof version) == C10D_ERR_UNAVAILABLE);
  CHECK(last_failure().status == C10D_ERR_UNAVAILABLE);
  CHECK(last_error() == "no driver: libsoftdev.so.1 is missing");
  softdev_make_unavailable(nullptr);
  CHECK(c10d_probe(version, sizeof version) == 19);
  CHECK(std::string(version, 19) == "software device 1.0");
}

TEST_CASE("a group of another kind of device is refused") {
  c10d_config config{};
  config.size = sizeof config;
  config.world_size = 1;
  CHECK(c10d_create(&config) == nullptr);
  CHECK(last_error() == "a software device is a cuda device, got cpu");
}
