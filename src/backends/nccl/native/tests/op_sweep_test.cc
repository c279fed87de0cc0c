// Results of all ops.
#include "op_sweep.h"

#include <doctest/doctest.h>

#include "emulator_faults.h"
#include "mutated.h"

using namespace c10d::test;

TEST_CASE("all ops give what they should, on 1, 2 and 4 ranks") {
  const NoFaults faults;
  for (const int32_t world_size : {1, 2, 4}) {
    DeviceRanks ranks(world_size, mutated());
    for (const auto& one : all_ops(world_size)) {
      CAPTURE(text_of(one, world_size));
      REQUIRE(run_case(ranks, one) == "");
    }
  }
}

TEST_CASE("all dtypes and reduce ops") {
  const NoFaults faults;
  for (const int32_t world_size : {1, 2, 4}) {
    DeviceRanks ranks(world_size, mutated());
    for (const auto& one : all_reductions()) {
      CAPTURE(text_of(one, world_size));
      REQUIRE(run_case(ranks, one) == "");
    }
  }
}
