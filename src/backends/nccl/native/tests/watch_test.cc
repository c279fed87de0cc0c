// Ranks that watch each other besides NCCL.
#include <doctest/doctest.h>

#include "device_ranks.h"
#include "emulator_faults.h"
#include "mutated.h"

using namespace c10d::test;

namespace {

constexpr size_t kFloats = 16;

/// Two ranks whose store has a value under the key that asks whether all ranks watch: the unique id.
struct Watching {
  DeviceBuffer x{2, kFloats};
  DeviceRanks ranks{2, mutated({"watch-key=0"})};

  DeviceOp op() { return DeviceOp(C10D_OP_ALLREDUCE, 0).out(x); }
  FailureView failure_of(int64_t id) { return take_failure(ranks.group(1), static_cast<uint64_t>(id)); }
};

}  // namespace

TEST_CASE("watch: an abort of one rank ends the op of another at once, and names it") {
  const NoFaults faults;
  Watching both;
  const auto id = both.ranks.run(1, both.op());
  c10d_abort(both.ranks.group(0), C10D_ERR_ABORTED, "enough");
  c10d_event event{};
  CHECK(both.ranks.wait(1, id, 20'000, &event) == C10D_ERR_NETWORK);
  CHECK((event.flags & C10D_EVENT_PINNED) == 0);
  CHECK(both.failure_of(id).peer == 0);
}

TEST_CASE("watch: a rank that has left is named by an op that needs it") {
  const NoFaults faults;
  Watching both;
  const auto id = both.ranks.run(1, both.op());
  CHECK(both.ranks.close(0) == 0);
  CHECK(both.ranks.wait(1, id, 20'000) == C10D_ERR_NETWORK);
  const auto failure = both.failure_of(id);
  CHECK(failure.peer == 0);
  CHECK(failure.text == "rank 0 has left the group");
}

TEST_CASE("watch: a time-out names the rank that has not arrived") {
  const NoFaults faults;
  Watching both;
  const auto id = both.ranks.run(1, both.op().limit(1'000));
  CHECK(both.ranks.wait(1, id, 20'000) == C10D_ERR_OP_TIMEOUT);
  CHECK(both.failure_of(id).peer == 0);
}
