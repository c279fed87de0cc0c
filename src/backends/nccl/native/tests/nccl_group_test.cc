// How groups over NCCL end, and what they refuse.
#include <doctest/doctest.h>

#include <chrono>

#include "device_ranks.h"
#include "emulator_faults.h"

using namespace c10d::test;

namespace {

constexpr size_t kFloats = 64;

}  // namespace

TEST_CASE("a group that is left with an op in flight does not harm the next one") {
  for (int round = 0; round < 3; round++) {
    DeviceRanks ranks(2);
    const DeviceBuffer x1(2, kFloats);
    x1.write(0, 1);
    ranks.run(1, DeviceOp(C10D_OP_ALLREDUCE, 0).out(x1));
    CHECK(ranks.wait(1, 1, 20) == C10D_ERR_WAIT_TIMEOUT);
    CHECK(ranks.close(0) == 0);
    CHECK(ranks.close(1) == 0);
  }
}
