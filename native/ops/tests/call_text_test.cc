// The text of a call, and what counts as the same call.
#include "ops/call_text.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ops/names.generated.h"

using namespace c10d;

namespace {

Op make_op(uint32_t opcode, std::vector<uint64_t> inputs, std::vector<uint64_t> outputs, int root = -1) {
  Op op;
  op.request.opcode = opcode;
  op.request.dtype = C10D_FLOAT32;
  op.request.reduce_op = C10D_MAX;
  op.request.premul_factor = 1;
  op.request.peer = root;
  for (const uint64_t bytes : inputs) op.inputs.push_back({0, bytes});
  for (const uint64_t bytes : outputs) op.outputs.push_back({0, bytes});
  return op;
}

Call call_at(uint64_t number, Op&& op) {
  op.number = number;
  return call_of(op);
}

std::string text_for(const Op& op) { return text_of(call_of(op)); }

}  // namespace

TEST_CASE("the text of a call") {
  CHECK(text_for(make_op(C10D_OP_ALLREDUCE, {}, {16})) == "allReduce(float32[4], MAX)");
  CHECK(text_for(make_op(C10D_OP_REDUCE, {}, {0}, 2)) == "reduce(float32[0], MAX, root 2)");
  CHECK(text_for(make_op(C10D_OP_BROADCAST, {}, {16}, 1)) == "broadcast(float32[4], root 1)");
  CHECK(text_for(make_op(C10D_OP_GATHER, {16}, {}, 1)) == "gather(float32[4], root 1)");
  CHECK(text_for(make_op(C10D_OP_SCATTER, {}, {16}, 1)) == "scatter(float32[4], root 1)");
  CHECK(text_for(make_op(C10D_OP_ALLGATHER, {16}, {16, 16})) == "allGather(float32[4])");
  CHECK(text_for(make_op(C10D_OP_ALLTOALL, {16, 4}, {16, 8})) == "allToAll(float32)");
  CHECK(text_for(make_op(C10D_OP_BARRIER, {}, {})) == "barrier()");
  CHECK(text_for(make_op(C10D_OP_REDUCE_SCATTER, {16, 8}, {16})) ==
        "reduceScatter(2 tensors of float32, 6 elements, MAX)");
  Op premul = make_op(C10D_OP_ALLREDUCE, {}, {4});
  premul.request.reduce_op = C10D_PREMUL_SUM;
  premul.request.premul_factor = 0.1;
  CHECK(text_for(premul) == "allReduce(float32[1], PREMUL_SUM(0.1))");
  // As JavaScript writes them.
  for (const auto& [factor, text] : std::vector<std::pair<double, std::string>>{
           {1, "1"},
           {-20, "-20"},
           {1.0 / 3, "0.3333333333333333"},
           {123456.75, "123456.75"},
           {0.000001, "0.000001"},
           {1e-7, "1e-7"},
           {1.25e-7, "1.25e-7"},
           {1e20, "100000000000000000000"},
           {1e21, "1e+21"},
           {-2.5e300, "-2.5e+300"},
           {-0.0, "0"},
           {HUGE_VAL, "Infinity"},
       }) {
    CAPTURE(factor);
    premul.request.premul_factor = factor;
    CHECK(text_for(premul) == "allReduce(float32[1], PREMUL_SUM(" + text + "))");
  }
  Op monitored = make_op(C10D_OP_BARRIER, {}, {});
  monitored.request.flags = C10D_FLAG_MONITORED | C10D_FLAG_WAIT_ALL_RANKS;
  CHECK(text_for(monitored) == "monitoredBarrier()");
}

TEST_CASE("what calls must agree on") {
  const auto same = [](const Op& a, const Op& b) { return agree(call_of(a), call_of(b)); };
  const Op usual = make_op(C10D_OP_ALLREDUCE, {}, {16});
  CHECK(same(usual, make_op(C10D_OP_ALLREDUCE, {}, {16})));
  CHECK_FALSE(same(usual, make_op(C10D_OP_ALLREDUCE, {}, {20})));
  CHECK_FALSE(same(usual, make_op(C10D_OP_BROADCAST, {}, {16}, 0)));
  CHECK_FALSE(agree(call_of(usual), call_at(1, make_op(C10D_OP_ALLREDUCE, {}, {16}))));
  Op sum = make_op(C10D_OP_ALLREDUCE, {}, {16});
  sum.request.reduce_op = C10D_SUM;
  CHECK_FALSE(same(usual, sum));
  Op integers = make_op(C10D_OP_ALLREDUCE, {}, {16});
  integers.request.dtype = C10D_INT32;
  CHECK_FALSE(same(usual, integers));
  // Without meaning for these ops.
  const Op gathers = make_op(C10D_OP_ALLGATHER, {16}, {16, 16});
  Op alike = make_op(C10D_OP_ALLGATHER, {16}, {16, 16});
  alike.request.reduce_op = C10D_SUM;
  alike.request.premul_factor = 0;
  CHECK(same(gathers, alike));
  // Sizes of an all-to-all concern only two ranks.
  CHECK(same(make_op(C10D_OP_ALLTOALL, {16, 4}, {16, 8}), make_op(C10D_OP_ALLTOALL, {4, 4}, {4, 16})));
  CHECK_FALSE(same(make_op(C10D_OP_GATHER, {16}, {}, 0), make_op(C10D_OP_GATHER, {16}, {}, 1)));
}

TEST_CASE("a mismatch names both ranks and their calls, with the same text on both") {
  const Call sum = call_at(3, make_op(C10D_OP_ALLREDUCE, {}, {16}));
  const Call root = call_at(3, make_op(C10D_OP_BROADCAST, {}, {16}, 1));
  const std::string text = mismatch_text(0, sum, 2, root);
  CHECK(text.find("rank 0 called allReduce(float32[4], MAX) as collective #3, rank 2 called broadcast(float32[4], root "
                  "1). All ranks") == 0);
  CHECK(mismatch_text(2, root, 0, sum) == text);
  const Call later = call_at(5, make_op(C10D_OP_BARRIER, {}, {}));
  CHECK(mismatch_text(0, sum, 1, later)
            .find("rank 1 called barrier() as collective #5: rank 1 has refused 2 calls more "
                  "than rank 0. All ranks") != std::string::npos);
  const Call before = call_at(2, make_op(C10D_OP_BARRIER, {}, {}));
  CHECK(mismatch_text(0, sum, 1, before, true).find("as collective #2. All") != std::string::npos);
  CHECK(mismatch_text(0, sum, 1, before).find("as collective #2: rank 0 has refused 1 call more than rank 1. All") !=
        std::string::npos);
  const Call list = call_at(1, make_op(C10D_OP_ALLREDUCE_COALESCED, {}, {8, 16}));
  const Call other_list = call_at(1, make_op(C10D_OP_ALLREDUCE_COALESCED, {}, {16, 8}));
  REQUIRE_FALSE(agree(list, other_list));
  CHECK(mismatch_text(0, list, 1, other_list).find("with tensors of other sizes") != std::string::npos);
}

TEST_CASE("what one rank sends and another one expects") {
  const Call call = call_at(7, make_op(C10D_OP_ALLTOALL, {16, 4}, {16, 8}));
  const std::string text = split_mismatch_text(call, 1, 16, 0, 8);
  CHECK(text ==
        "rank 0 called allToAll(float32) as collective #7, rank 1 called allToAll(float32), but rank 1 sends "
        "float32[4] to rank 0, which expects float32[2]");
  CHECK(message_mismatch_text(5, 0, C10D_FLOAT32, 16, 1, C10D_INT64, 8) ==
        "rank 0 sent float32[4] with tag 5, rank 1 was to receive int64[1]");
}

TEST_CASE("the collectives that every shim implements") {
  const std::vector<uint32_t> others{C10D_OP_SEND,
                                     C10D_OP_RECV,
                                     C10D_OP_RECV_ANY_SOURCE,
                                     C10D_OP_COALESCED,
                                     C10D_OP_ALLREDUCE_SPARSE,
                                     C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED};
  for (uint32_t opcode = 0; opcode <= kHighestOpcode; opcode++) {
    CAPTURE(opcode);
    CHECK(is_common_collective(opcode) == (std::find(others.begin(), others.end(), opcode) == others.end()));
  }
  CHECK_FALSE(is_common_collective(kHighestOpcode + 1));
}
