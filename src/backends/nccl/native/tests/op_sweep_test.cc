// Results of all ops.
#include "op_sweep.h"

#include <doctest/doctest.h>

#include "element_types.h"
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

TEST_CASE("8-bit floats are moved as such, as PyTorch does, by releases that have them") {
  using c10d::nccl_shim::moved_type;
  using c10d::nccl_shim::NcclType;
  CHECK(moved_type(C10D_FLOAT8_E4M3FN, 22304).type == NcclType::uint8);
  CHECK(moved_type(C10D_FLOAT8_E4M3FN, 22403).type == NcclType::float8_e4m3);
  CHECK(moved_type(C10D_FLOAT8_E5M2, 22403).type == NcclType::float8_e5m2);
  CHECK(moved_type(C10D_INT16, 23007).type == NcclType::uint8);
}
