// Two ranks carry out all ops that gloo's check accepts. Their memory has exact sizes, so sanitizers see accesses
// beyond it.
#include <doctest/doctest.h>

#include <chrono>

#include "collective_check.h"
#include "mesh/tests/connected_ranks.h"
#include "ops/call_text.h"
#include "ops/names.generated.h"
#include "random_record.h"

using namespace c10d;
using namespace c10d::gloo_shim;
using namespace c10d::test;

TEST_CASE("ops that gloo's check accepts stay within their buffers") {
  constexpr int kSize = 2;
  const uint64_t seed = fuzz_seed();
  MESSAGE("C10D_FUZZ_SEED=" << seed);
  std::mt19937_64 random(seed);
  auto ranks = connect_ranks(kSize);
  uint32_t turn = 0;
  size_t carried_out = 0;
  const auto until = Clock::now() + std::chrono::duration<double>(fuzz_seconds());
  do {
    std::vector<std::unique_ptr<RandomRecord>> records;
    std::vector<Op> ops(kSize);
    const uint64_t same = random();
    bool accepted = true;
    for (int rank = 0; rank < kSize; rank++) {
      // The same call on both, except for what depends on the rank.
      std::mt19937_64 of_call(same);
      records.push_back(std::make_unique<RandomRecord>(of_call, rank, kSize, true));
      Op& op = ops[static_cast<size_t>(rank)];
      try {
        op.assign(records.back()->op(), nullptr, nullptr, rank, kSize, Device{});
        check_shape(op, rank, kSize);
        check_collective(op);
      } catch (const Failure& failure) {
        CHECK(failure.harmless());
        accepted = false;
      }
      accepted =
          accepted && !is_service(op.request.opcode) && is_direct(op) && (op.request.flags & C10D_FLAG_MONITORED) == 0;
    }
    if (!accepted) continue;
    turn++;
    carried_out++;
    std::vector<std::string> failures(kSize);
    on_each(kSize, [&](int rank) {
      const auto own = static_cast<size_t>(rank);
      failures[own] = failure_of([&] { run_in_turn(ops[own], turn, *ranks[own]); });
      if (failures[own].empty()) return;
      for (const auto& connections : ranks) connections->abort();
    });
    if (failures != std::vector<std::string>(kSize)) {
      ranks = connect_ranks(kSize);
      turn = 0;
    }
  } while (Clock::now() < until);
  CHECK(carried_out > 10);
}

TEST_CASE("gloo refuses ops that it does not implement") {
  Op op;
  op.request.dtype = C10D_FLOAT32;
  for (uint32_t opcode = 0; opcode <= kHighestOpcode + 1; opcode++) {
    CAPTURE(opcode);
    op.request.opcode = opcode;
    const std::string failure = failure_of([&] { check_collective(op); });
    const bool known = is_common_collective(opcode) || opcode == C10D_OP_ALLREDUCE_SPARSE;
    CHECK(failure.empty() == known);
  }
}
