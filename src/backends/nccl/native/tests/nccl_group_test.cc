// How groups over NCCL are made and end, and what they refuse.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "device_ranks.h"
#include "emulator_faults.h"
#include "mutated.h"

using namespace c10d::test;

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kFloats = 64;

int64_t milliseconds_since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
}

/// Two ranks, each with a buffer.
struct Pair {
  DeviceBuffer x0{1, kFloats};
  DeviceBuffer x1{2, kFloats};
  DeviceRanks ranks;

  explicit Pair(const DeviceRanks::Settings& settings = {}) : ranks(2, mutated(settings)) {
    x0.write(0, 1);
    x1.write(0, 2);
  }
  DeviceOp op0() const { return DeviceOp(C10D_OP_ALLREDUCE, 0).out(x0); }
  DeviceOp op1() const { return DeviceOp(C10D_OP_ALLREDUCE, 0).out(x1); }
  bool all_reduce_works() {
    const auto id0 = ranks.run(0, op0());
    const auto id1 = ranks.run(1, op1());
    return ranks.wait(0, id0) == C10D_OK && ranks.wait(1, id1) == C10D_OK;
  }
};

c10d_config config_of(int32_t rank, int32_t world_size, int32_t device, const std::string& options = "") {
  c10d_config config{};
  config.size = sizeof config;
  config.rank = rank;
  config.world_size = world_size;
  config.device_type = C10D_DEVICE_CUDA;
  config.device_index = device;
  config.timeout_ms = 20'000;
  config.options = reinterpret_cast<uint64_t>(options.data());
  config.options_bytes = options.size();
  return config;
}

/// The READY event of a group that nobody serves.
c10d_event ready_of(c10d_group* group) {
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  for (;;) {
    c10d_event event{};
    while (c10d_drain(group, &event, sizeof event, 1) == 1) {
      if (event.kind == C10D_EVENT_READY) return event;
    }
    REQUIRE(Clock::now() < deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

TEST_CASE("group: one that is left with an op in flight does not harm the next one") {
  const NoFaults faults;
  for (int round = 0; round < 3; round++) {
    Pair pair;
    pair.ranks.run(1, pair.op1());
    CHECK(pair.ranks.wait(1, 1, 20) == C10D_ERR_WAIT_TIMEOUT);
    CHECK(pair.ranks.close(0) == 0);
    CHECK(pair.ranks.close(1) == 0);
  }
}

TEST_CASE("group: two at the same time, on the same devices") {
  const NoFaults faults;
  Pair first;
  Pair second;
  for (int i = 0; i < 5; i++) {
    CHECK(first.all_reduce_works());
    CHECK(second.all_reduce_works());
  }
  CHECK(first.x0.holds(0, 3 * 16));
  CHECK(second.x1.holds(0, 3 * 16));
}

TEST_CASE("group: an op that a peer does not join times out, and its buffers are released") {
  const NoFaults faults;
  Pair pair;
  const auto start = Clock::now();
  const auto id = pair.ranks.run(0, pair.op0().limit(50));
  c10d_event event{};
  CHECK(pair.ranks.wait(0, id, 20'000, &event) == C10D_ERR_OP_TIMEOUT);
  CHECK(milliseconds_since(start) < 10'000);
  CHECK((event.flags & C10D_EVENT_PINNED) == 0);
  CHECK(c10d_group_state(pair.ranks.group(0)) == C10D_FAILED);
  CHECK(pair.ranks.submit(0, pair.op0()) == C10D_ERR_GROUP_FAILED);
  CHECK(pair.ranks.close(0) == 0);
}

TEST_CASE("group: an abort ends ops at every stage, and no call of NCCL is interrupted by it") {
  const NoFaults faults;
  for (int round = 0; round < 12; round++) {
    Pair pair;
    if (round % 3 == 0) CHECK(pair.all_reduce_works());
    std::vector<int64_t> ids;
    for (int i = 0; i < 4; i++) ids.push_back(pair.ranks.run(0, pair.op0()));
    std::this_thread::sleep_for(std::chrono::microseconds(97 * round));
    std::thread aborter([&] { c10d_abort(pair.ranks.group(0), C10D_ERR_ABORTED, "enough"); });
    for (const auto id : ids) {
      c10d_event event{};
      CHECK(pair.ranks.wait(0, id, 20'000, &event) == C10D_ERR_ABORTED);
      CHECK((event.flags & C10D_EVENT_PINNED) == 0);
    }
    aborter.join();
    c10d_stats stats{};
    c10d_group_stats(pair.ranks.group(0), &stats, sizeof stats);
    CHECK(stats.pinned == 0);
    CHECK(pair.ranks.close(0) == 0);
    // What was written to the tensors may not be there yet, and they are freed now.
    for (const int32_t rank : {0, 1}) test_device::synchronize(pair.ranks.device(rank), 0);
  }
}

TEST_CASE("group: an abort with nothing in flight ends the communicator at once") {
  const NoFaults faults;
  Pair pair;
  CHECK(pair.all_reduce_works());
  c10d_abort(pair.ranks.group(0), C10D_ERR_ABORTED, "enough");
  CHECK(pair.ranks.close(0) == 0);
  CHECK(pair.ranks.close(1) == 0);
}

TEST_CASE("group: connecting ends by an abort, and at its deadline") {
  const NoFaults faults;
  for (const bool aborts : {true, false}) {
    CAPTURE(aborts);
    // Rank 0 of 2: nobody answers its request to store the id, or joins.
    const std::string options = mutated().empty() ? "" : mutated()[0] + '\0';
    auto config = config_of(0, 2, 1, options);
    config.timeout_ms = aborts ? 20'000 : 100;
    c10d_group* group = c10d_create(&config);
    REQUIRE(group != nullptr);
    c10d_event event{};
    while (event.kind != C10D_EVENT_STORE_SET) c10d_drain(group, &event, sizeof event, 1);
    CHECK(event.value_bytes == 128);
    std::string key(event.key_bytes, ' ');
    std::vector<char> value(event.value_bytes);
    c10d_exchange_read(group, event.id, key.data(), event.key_bytes, value.data(), event.value_bytes);
    CHECK(key == "0");
    c10d_exchange_reply(group, event.id, C10D_OK, nullptr, 0);
    const auto start = Clock::now();
    if (aborts) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      c10d_abort(group, C10D_ERR_ABORTED, "enough");
    }
    CHECK(ready_of(group).status == (aborts ? C10D_ERR_ABORTED : C10D_ERR_OP_TIMEOUT));
    CHECK(milliseconds_since(start) < 10'000);
    CHECK(c10d_close(group, 20'000) == 0);
  }
}

TEST_CASE("group: a batch of messages both ways and collectives is one group call") {
  const NoFaults faults;
  Pair pair;
  const DeviceBuffer in0(1, kFloats), in1(2, kFloats), sent0(1, kFloats), sent1(2, kFloats);
  sent0.write(0, 10);
  sent1.write(0, 11);
  const auto batch = [](int32_t other, const DeviceBuffer& x, const DeviceBuffer& in, const DeviceBuffer& sent) {
    return std::vector<DeviceOp>{DeviceOp(C10D_OP_RECV, 0).out(in).peer(other), DeviceOp(C10D_OP_ALLREDUCE, 0).out(x),
                                 DeviceOp(C10D_OP_SEND, 0).in(sent).peer(other), DeviceOp(C10D_OP_BARRIER)};
  };
  for (int round = 0; round < 3; round++) {
    const auto id0 = pair.ranks.submit(0, batch(1, pair.x0, in0, sent0));
    const auto id1 = pair.ranks.submit(1, batch(0, pair.x1, in1, sent1));
    for (int32_t rank = 0; rank < 2; rank++) c10d_kick(pair.ranks.group(rank));
    for (int64_t i = 0; i < 4; i++) {
      c10d_event event{};
      CHECK(pair.ranks.wait(0, id0 + i, 20'000, &event) == C10D_OK);
      if (i == 0) CHECK(event.peer == 1);
      CHECK(pair.ranks.wait(1, id1 + i) == C10D_OK);
    }
  }
  CHECK(in0.holds(0, 11));
  CHECK(in1.holds(0, 10));
  CHECK(pair.x0.holds(0, 3 * 4));
}

TEST_CASE("group: split by color; a rank with a negative one is in no group") {
  const NoFaults faults;
  std::vector<std::unique_ptr<DeviceBuffer>> x;
  for (int32_t rank = 0; rank < 4; rank++) {
    x.push_back(std::make_unique<DeviceBuffer>(rank + 1, kFloats));
    x.back()->write(0, static_cast<float>(rank + 1));
  }
  DeviceRanks parent(4, mutated());
  DeviceRanks parts(parent, {7, 3, 7, -1});
  for (int32_t rank = 0; rank < 4; rank++) CHECK(parts.ready(rank).status == C10D_OK);
  for (size_t rank = 0; rank < 3; rank++) {
    CHECK(parts.run(static_cast<int32_t>(rank), DeviceOp(C10D_OP_ALLREDUCE, 0).out(*x[rank])) == 1);
  }
  CHECK(parts.submit(3, DeviceOp(C10D_OP_ALLREDUCE, 0).out(*x[3])) == C10D_ERR_INVALID);
  for (int32_t rank = 0; rank < 3; rank++) CHECK(parts.wait(rank, 1) == C10D_OK);
  CHECK(x[0]->holds(0, 4));
  CHECK(x[1]->holds(0, 2));
  // The parent can be used too.
  for (size_t rank = 0; rank < 4; rank++) {
    CHECK(parent.run(static_cast<int32_t>(rank), DeviceOp(C10D_OP_ALLREDUCE, 0).out(*x[rank])) == 1);
  }
  for (int32_t rank = 0; rank < 4; rank++) CHECK(parent.wait(rank, 1) == C10D_OK);
  CHECK(x[3]->holds(0, 4 + 2 + 4 + 4));
  // And the new groups without it.
  for (int32_t rank = 0; rank < 4; rank++) CHECK(parent.close(rank) == 0);
  for (const int32_t rank : {0, 2}) {
    CHECK(parts.run(rank, DeviceOp(C10D_OP_ALLREDUCE, 0).out(*x[static_cast<size_t>(rank)])) == 2);
  }
  for (const int32_t rank : {0, 2}) CHECK(parts.wait(rank, 2) == C10D_OK);
  CHECK(x[0]->holds(0, 28));
}

TEST_CASE("group: ops of the parent that are submitted during a split come after it") {
  const NoFaults faults;
  for (const bool blocks : {false, true}) {
    CAPTURE(blocks);
    for (int round = 0; round < 10; round++) {
      const DeviceBuffer x0(1, kFloats), x1(2, kFloats);
      x0.write(0, 1);
      x1.write(0, 2);
      auto options = mutated();
      if (blocks) options.emplace_back("blocking=1");
      DeviceRanks parent(2, options);
      std::vector<c10d_group*> halves;
      std::vector<int64_t> ids;
      for (int32_t rank = 0; rank < 2; rank++) {
        auto config = config_of(rank, 2, rank + 1);
        config.color = 1;
        halves.push_back(c10d_split(parent.group(rank), &config));
        REQUIRE(halves.back() != nullptr);
        CHECK(c10d_split(parent.group(rank), &config) == nullptr);
        CHECK(last_error() == "the group is being split already");
        ids.push_back(parent.run(rank, DeviceOp(C10D_OP_ALLREDUCE, 0).out(rank == 0 ? x0 : x1)));
        std::this_thread::sleep_for(std::chrono::microseconds(211 * round));
      }
      for (int32_t rank = 0; rank < 2; rank++) {
        CHECK(ready_of(halves[static_cast<size_t>(rank)]).status == C10D_OK);
        CHECK(parent.wait(rank, ids[static_cast<size_t>(rank)]) == C10D_OK);
      }
      CHECK(x0.holds(0, 3));
      CHECK(x1.holds(0, 3));
      for (auto* half : halves) CHECK(c10d_close(half, 20'000) == 0);
    }
  }
}

TEST_CASE("group: a split that a rank does not join in time fails the parent, too") {
  const NoFaults faults;
  for (const bool blocks : {false, true}) {
    CAPTURE(blocks);
    auto options = mutated();
    if (blocks) options.emplace_back("blocking=1");
    const DeviceBuffer x0(1, kFloats);
    DeviceRanks parent(2, options);
    auto config = config_of(0, 2, 1);
    config.color = 1;
    config.timeout_ms = 100;
    c10d_group* half = c10d_split(parent.group(0), &config);
    REQUIRE(half != nullptr);
    const auto start = Clock::now();
    const auto id = parent.run(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x0));
    CHECK(parent.wait(0, id) == C10D_ERR_OP_TIMEOUT);
    CHECK(milliseconds_since(start) < 10'000);
    CHECK(c10d_group_state(parent.group(0)) == C10D_FAILED);
    CHECK(parent.submit(0, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x0)) == C10D_ERR_GROUP_FAILED);
    CHECK(last_error().find("ncclCommSplit") != std::string::npos);
    if (blocks) {
      // Nothing else ends NCCL's call.
      auto late = config_of(1, 2, 2);
      late.color = 1;
      c10d_group* other = c10d_split(parent.group(1), &late);
      REQUIRE(other != nullptr);
      CHECK(ready_of(other).status == C10D_OK);
      CHECK(c10d_close(other, 20'000) == 0);
    }
    CHECK(ready_of(half).status < C10D_OK);
    CHECK(c10d_close(half, 20'000) == 0);
  }
}

TEST_CASE("group: a split that a rank does not join ends by an abort, and so does the parent") {
  const NoFaults faults;
  Pair pair;
  auto config = config_of(0, 2, 1);
  config.color = 1;
  c10d_group* half = c10d_split(pair.ranks.group(0), &config);
  REQUIRE(half != nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  c10d_abort(pair.ranks.group(0), C10D_ERR_ABORTED, "enough");
  CHECK(ready_of(half).status == C10D_ERR_ABORTED);
  CHECK(c10d_close(half, 20'000) == 0);
  CHECK(pair.ranks.close(0) == 0);
}

TEST_CASE("group: synchronize starts an op that is queued, and does not wait for its end") {
  NoFaults faults;
  Pair pair;
  const DeviceBuffer seen(1, kFloats);
  const DeviceStream consumer(1);
  const auto id = pair.ranks.submit(0, pair.op0());
  CHECK(pair.ranks.synchronize(0, id, consumer, 5'000) == C10D_OK);
  test_device::copy(1, consumer, seen.address(), pair.x0.address(), seen.bytes());
  CHECK(pair.ranks.wait(0, id, 0) == C10D_ERR_WAIT_TIMEOUT);
  pair.ranks.run(1, pair.op1());
  CHECK(seen.holds(consumer, 3));
  CHECK(pair.ranks.wait(0, id) == C10D_OK);
  CHECK(pair.ranks.synchronize(0, id, 12345) == C10D_OK);
  const auto next = pair.ranks.run(0, pair.op0());
  CHECK(pair.ranks.synchronize(0, next, 12345) == C10D_ERR_INVALID);
  CHECK(last_error() == "no such stream on cuda:1");
  CHECK(faults.forgive() == 1);
}

TEST_CASE("group: memory is registered, and windows are opened") {
  const NoFaults faults;
  Pair pair;
  c10d_capabilities all{};
  c10d_group_capabilities(pair.ranks.group(0), &all, sizeof all);
  const auto serve = [&](c10d_service service, bool both) {
    const auto id0 = pair.ranks.run(0, DeviceOp(service).out(pair.x0));
    if (id0 < 0) return static_cast<int32_t>(id0);
    const auto id1 = both ? pair.ranks.run(1, DeviceOp(service).out(pair.x1)) : 0;
    const int32_t status = pair.ranks.wait(0, id0);
    return both ? std::min(status, pair.ranks.wait(1, id1)) : status;
  };
  if ((all.services >> C10D_SERVICE_REGISTER_MEMORY & 1) == 0) {
    CHECK(serve(C10D_SERVICE_REGISTER_MEMORY, false) == C10D_ERR_UNSUPPORTED);
  } else {
    CHECK(serve(C10D_SERVICE_REGISTER_MEMORY, false) == C10D_OK);
    CHECK(serve(C10D_SERVICE_REGISTER_MEMORY, false) == C10D_ERR_INVALID);
    CHECK(pair.all_reduce_works());
    CHECK(serve(C10D_SERVICE_DEREGISTER_MEMORY, false) == C10D_OK);
    CHECK(serve(C10D_SERVICE_DEREGISTER_MEMORY, false) == C10D_ERR_INVALID);
  }
  if ((all.services >> C10D_SERVICE_OPEN_WINDOW & 1) == 0) {
    CHECK(serve(C10D_SERVICE_OPEN_WINDOW, true) == C10D_ERR_UNSUPPORTED);
  } else {
    CHECK(serve(C10D_SERVICE_OPEN_WINDOW, true) == C10D_OK);
    CHECK(c10d_window_address(pair.ranks.group(0), pair.x0.address(), 0) == pair.x0.address());
    CHECK(c10d_window_address(pair.ranks.group(0), pair.x0.address(), 1) == 0);
    CHECK(pair.all_reduce_works());
    CHECK(serve(C10D_SERVICE_CLOSE_WINDOW, true) == C10D_OK);
    CHECK(c10d_window_address(pair.ranks.group(0), pair.x0.address(), 0) == 0);
  }
  CHECK(pair.all_reduce_works());
}

TEST_CASE("group: times are those of the device") {
  const NoFaults faults;
  Pair pair;
  const DeviceStream stream(1);
  Hold hold(1, stream);
  const auto id0 = pair.ranks.run(0, DeviceOp(C10D_OP_ALLREDUCE, stream).out(pair.x0));
  const auto id1 = pair.ranks.run(1, pair.op1());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto released = c10d_clock_ns();
  hold.release();
  c10d_event event{};
  CHECK(pair.ranks.wait(0, id0, 20'000, &event) == C10D_OK);
  CHECK(event.started_ns >= released);
  CHECK(event.started_ns <= event.finished_ns);
  CHECK(event.finished_ns <= c10d_clock_ns());
  CHECK(pair.ranks.wait(1, id1) == C10D_OK);
}

TEST_CASE("group: its stream has the highest priority where that is wished") {
  const NoFaults faults;
  constexpr int kHighest = -5;
  for (const bool high : {false, true}) {
    const auto urgent = cuemu_streams_of(1, kHighest);
    const auto plain = cuemu_streams_of(1, 0);
    const DeviceRanks ranks(1, mutated(high ? DeviceRanks::Settings{"high-priority=1"} : DeviceRanks::Settings{}));
    CHECK(cuemu_streams_of(1, kHighest) == urgent + (high ? 1 : 0));
    CHECK(cuemu_streams_of(1, 0) == plain + (high ? 0 : 1));
  }
}

TEST_CASE("group: each option is the field of that name in NCCL's configuration") {
  const NoFaults faults;
  // Loaded already, by its path.
  void* const library = ::dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
  REQUIRE(library != nullptr);
  const auto version_of = reinterpret_cast<int (*)(int*)>(::dlsym(library, "ncclGetVersion"));
  const auto field = reinterpret_cast<int (*)(const char*)>(::dlsym(library, "ncclemu_last_config"));
  REQUIRE((field != nullptr));
  int version = 0;
  version_of(&version);
  struct Row {
    const char* option;
    const char* field;
    int value;
    int since;
  };
  std::vector<Row> rows{
      {"blocking", "blocking", 1, 0},
      {"cga-cluster-size", "cgaClusterSize", 3, 0},
      {"min-ctas", "minCTAs", 5, 0},
      {"max-ctas", "maxCTAs", 7, 0},
      {"split-share", "splitShare", 1, 0},
      {"traffic-class", "trafficClass", 9, 22600},
      {"collnet-enable", "collnetEnable", 1, 22700},
      {"cta-policy", "CTAPolicy", 1, 22700},
      {"shrink-share", "shrinkShare", 1, 22700},
      {"nvls-ctas", "nvlsCTAs", 11, 22700},
      {"n-channels-per-net-peer", "nChannelsPerNetPeer", 13, 22800},
      {"nvlink-centric-sched", "nvlinkCentricSched", 1, 22800},
      {"graph-usage-mode", "graphUsageMode", 1, 22900},
      {"num-rma-ctx", "numRmaCtx", 2, 22900},
      {"max-p2p-peers", "maxP2pPeers", 17, 23000},
      {"graph-stream-ordering", "graphStreamOrdering", 1, 23005},
  };
  rows.erase(std::remove_if(rows.begin(), rows.end(), [&](const Row& row) { return row.since > version; }), rows.end());
  for (const auto& set : rows) {
    CAPTURE(std::string(set.option));
    const DeviceRanks ranks(1, mutated({std::string(set.option) + "=" + std::to_string(set.value)}));
    for (const auto& row : rows) {
      CAPTURE(std::string(row.field));
      const int otherwise = std::string(row.option) == "blocking" ? 0 : std::numeric_limits<int>::min();
      CHECK(field(row.field) == (row.option == set.option ? set.value : otherwise));
    }
  }
}
