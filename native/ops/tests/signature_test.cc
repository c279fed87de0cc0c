// Whether the signatures of two ranks match, and which ranks are named if not.
#include "ops/signature.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ops/op_parts.h"

using namespace c10d;

namespace {

/// Of float32. Elements of each input, and of each output.
Op make_op(uint32_t opcode, const std::vector<uint64_t>& inputs, const std::vector<uint64_t>& outputs) {
  Op op;
  op.number = 3;
  op.request.opcode = opcode;
  op.request.dtype = C10D_FLOAT32;
  op.request.peer = -1;
  for (const uint64_t count : inputs) op.inputs.push_back({0x1000, count * 4});
  for (const uint64_t count : outputs) op.outputs.push_back({0x2000, count * 4});
  return op;
}

}  // namespace

TEST_CASE("calls that differ are a DESYNC on both ranks, with the same text") {
  const Op sum = make_op(C10D_OP_ALLREDUCE, {}, {4});
  Op largest = make_op(C10D_OP_ALLREDUCE, {}, {4});
  largest.request.reduce_op = C10D_MAX;
  const auto one = signature_for(sum, 2, 3);
  const auto other = signature_for(largest, 0, 3);
  CHECK_FALSE(mismatch_of(one, 0, signature_for(sum, 0, 3), 2));
  const auto here = mismatch_of(one, 0, other, 2);
  const auto there = mismatch_of(other, 2, one, 0);
  REQUIRE(here);
  REQUIRE(there);
  CHECK(here->status() == C10D_ERR_DESYNC);
  CHECK(here->text() == there->text());
  CHECK(here->text().find("rank 0 called allReduce(float32[4], SUM) as collective #3, rank 2 called "
                          "allReduce(float32[4], MAX). All") == 0);
  CHECK(here->peer() == 2);
  CHECK(there->peer() == 0);
  CHECK_FALSE(here->harmless());
  CHECK_THROWS_AS(require_same(one, 0, other, 2), Failure);
  CHECK_NOTHROW(require_same(one, 0, one, 2));
}

TEST_CASE("in an all-to-all, a rank must expect what the other sends") {
  // Rank 0 sends 3 and expects 5; rank 1 expects 2 and sends 4.
  const Op first = make_op(C10D_OP_ALLTOALL, {1, 3}, {1, 5});
  const Op second = make_op(C10D_OP_ALLTOALL, {4, 1}, {2, 1});
  const auto mine = signature_for(first, 1, 2);
  const auto theirs = signature_for(second, 0, 2);
  CHECK(mine.sent == 12);
  CHECK(mine.expected == 20);
  const auto here = mismatch_of(mine, 0, theirs, 1);
  const auto there = mismatch_of(theirs, 1, mine, 0);
  REQUIRE(here);
  REQUIRE(there);
  // Two things are wrong; both ranks report the same one.
  CHECK(here->text() == there->text());
  CHECK(here->text().find("rank 1 sends float32[4] to rank 0, which expects float32[5]") != std::string::npos);
  CHECK_FALSE(mismatch_of(mine, 0, signature_for(make_op(C10D_OP_ALLTOALL, {5, 1}, {3, 1}), 0, 2), 1));
}

TEST_CASE("of several mismatches all ranks name the first, even if it is one of two others") {
  // What each rank sends to 0, 1 and 2, and expects from them: 1 and 2 do not match, nor do 0 and 2.
  const std::vector<std::vector<uint64_t>> sent{{1, 1, 1}, {1, 1, 2}, {2, 1, 1}};
  std::vector<Op> ops;
  for (const auto& each : sent) ops.push_back(make_op(C10D_OP_ALLTOALL, each, {1, 1, 1}));
  const auto named = [&](int rank, const std::vector<int>& known) {
    return first_mismatch(rank, 3, [&](int from, int to) -> std::optional<Signature> {
      if (std::find(known.begin(), known.end(), from) == known.end()) return std::nullopt;
      return signature_for(ops[static_cast<size_t>(from)], to, 3);
    });
  };
  for (int rank = 0; rank < 3; rank++) {
    const auto failure = named(rank, {0, 1, 2});
    REQUIRE(failure);
    CHECK(failure->mismatch() == C10D_MISMATCH_SPLITS);
    CHECK(failure->peer() == (rank == 2 ? 0 : 2));
    CHECK(failure->text().find("rank 2 sends float32[2] to rank 0, which expects float32[1]") != std::string::npos);
  }
  CHECK(named(1, {1, 2})->text().find("rank 1 sends float32[2] to rank 2") != std::string::npos);
  CHECK_FALSE(named(0, {0, 1}));
}

TEST_CASE("the parts of an all-to-all") {
  Op equal = make_op(C10D_OP_ALLTOALL_BASE, {6}, {6});
  CHECK(part_to(equal, 2, 3).bytes == 8);
  CHECK(part_to(equal, 2, 3).data == reinterpret_cast<uint8_t*>(0x1000 + 16));
  Op split = make_op(C10D_OP_ALLTOALL_BASE, {6}, {3});
  split.input_splits = {1, 2, 3};
  split.output_splits = {1, 0, 2};
  CHECK(part_to(split, 2, 3).bytes == 12);
  CHECK(part_to(split, 2, 3).data == reinterpret_cast<uint8_t*>(0x1000 + 12));
  CHECK(part_from(split, 2, 3).bytes == 8);
  CHECK(part_from(split, 2, 3).data == reinterpret_cast<uint8_t*>(0x2000 + 4));
  CHECK(part_to(make_op(C10D_OP_ALLREDUCE, {}, {4}), 1, 3).bytes == 0);
}

TEST_CASE("every field of a call, and what came before it, changes the hash") {
  Call usual;
  usual.number = 7;
  usual.opcode = C10D_OP_REDUCE;
  usual.dtype = C10D_FLOAT32;
  usual.root = 1;
  usual.tensors = 1;
  usual.elements = 4;
  CHECK(hash_of(0, usual) == hash_of(0, Call(usual)));
  CHECK(hash_of(1, usual) != hash_of(0, usual));
  const auto differs = [&](auto change) {
    Call other = usual;
    change(other);
    CHECK_FALSE(agree(usual, other));
    CHECK(hash_of(0, other) != hash_of(0, usual));
  };
  differs([](Call& call) { call.number++; });
  differs([](Call& call) { call.opcode = C10D_OP_BROADCAST; });
  differs([](Call& call) { call.dtype = C10D_INT32; });
  differs([](Call& call) { call.reduce_op = C10D_MAX; });
  differs([](Call& call) { call.root = 0; });
  differs([](Call& call) { call.flags = C10D_FLAG_MONITORED; });
  differs([](Call& call) { call.tensors = 2; });
  differs([](Call& call) { call.elements = 5; });
  differs([](Call& call) { call.sizes = 1; });
  differs([](Call& call) { call.premul_factor = 2; });
  Op negative = make_op(C10D_OP_ALLREDUCE, {}, {4});
  negative.request.reduce_op = C10D_PREMUL_SUM;
  negative.request.premul_factor = -0.0;
  Op positive = make_op(C10D_OP_ALLREDUCE, {}, {4});
  positive.request.reduce_op = C10D_PREMUL_SUM;
  positive.request.premul_factor = 0;
  CHECK(hash_of(0, call_of(negative)) == hash_of(0, call_of(positive)));
}
