// Small collectives computed by each rank, for both ways in which their data is exchanged.
#include "reduction/small_op.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/op_parts.h"

using namespace c10d;

namespace {

constexpr int kSize = 3;
using Values = std::vector<int32_t>;

/// An op of int32 on each rank, with its memory.
struct Ranks {
  std::vector<std::unique_ptr<Values>> memory;
  std::vector<Op> ops{kSize};

  c10d_buffer make(const Values& values) {
    memory.push_back(std::make_unique<Values>(values));
    return {reinterpret_cast<uint64_t>(memory.back()->data()), values.size() * sizeof(int32_t)};
  }
  static Values values_of(const c10d_buffer& buffer) {
    const auto* const data = reinterpret_cast<const int32_t*>(buffer.address);
    return {data, data + buffer.bytes / sizeof(int32_t)};
  }
  Values results(int rank) const {
    Values all;
    for (const auto& buffer : ops[static_cast<size_t>(rank)].outputs) {
      for (const int32_t value : values_of(buffer)) all.push_back(value);
    }
    return all;
  }
};

/// What rank `from` has for rank `to`.
int32_t number(int from, int to) { return 1 + from * 10 + to; }

Ranks ranks_of(uint32_t opcode, int root) {
  Ranks ranks;
  for (int rank = 0; rank < kSize; rank++) {
    Op& op = ranks.ops[static_cast<size_t>(rank)];
    op.request.opcode = opcode;
    op.request.dtype = C10D_INT32;
    op.request.peer = root;
    const auto own = [&] { return ranks.make({number(rank, 0), number(rank, 1)}); };
    const auto blank = [&](size_t n) { return ranks.make(Values(n)); };
    const auto for_each = [&](auto each) {
      for (int i = 0; i < kSize; i++) each(i);
    };
    switch (opcode) {
      case C10D_OP_ALLREDUCE_COALESCED:
        op.outputs = {own(), own()};
        break;
      case C10D_OP_ALLGATHER:
      case C10D_OP_GATHER:
        op.inputs = {own()};
        if (opcode == C10D_OP_ALLGATHER || rank == root) for_each([&](int) { op.outputs.push_back(blank(2)); });
        break;
      case C10D_OP_ALLGATHER_BASE:
        op.inputs = {own()};
        op.outputs = {blank(2 * kSize)};
        break;
      case C10D_OP_SCATTER:
        if (rank == root) for_each([&](int i) { op.inputs.push_back(ranks.make({number(rank, i), -1})); });
        op.outputs = {blank(2)};
        break;
      case C10D_OP_REDUCE_SCATTER:
        // Part i has i + 1 elements.
        for_each([&](int i) { op.inputs.push_back(ranks.make(Values(static_cast<size_t>(i) + 1, number(rank, i)))); });
        op.outputs = {blank(static_cast<size_t>(rank) + 1)};
        break;
      case C10D_OP_REDUCE_SCATTER_BASE:
        op.inputs = {ranks.make({number(rank, 0), 0, number(rank, 1), 1, number(rank, 2), 2})};
        op.outputs = {blank(2)};
        break;
      case C10D_OP_ALLTOALL:
        // Every rank sends t elements to rank t.
        for_each([&](int i) { op.inputs.push_back(ranks.make(Values(static_cast<size_t>(i), number(rank, i)))); });
        for_each([&](int) { op.outputs.push_back(blank(static_cast<size_t>(rank))); });
        break;
      default:
        op.outputs = {own()};
    }
  }
  return ranks;
}

/// Each rank sends to each other rank what it has for that one.
void one_to_one(Ranks& ranks) {
  std::vector<std::vector<std::vector<uint8_t>>> sent(kSize);
  for (int from = 0; from < kSize; from++) {
    const Op& op = ranks.ops[static_cast<size_t>(from)];
    REQUIRE(is_small(op, kSize));
    for (int to = 0; to < kSize; to++) {
      auto& data = sent[static_cast<size_t>(from)].emplace_back(kMostCarried);
      data.resize(copy_part(op, from, to, kSize, data.data()));
    }
  }
  for (int to = 0; to < kSize; to++) {
    finish_small(ranks.ops[static_cast<size_t>(to)], to, kSize,
                 [&](int from) { return sent[static_cast<size_t>(from)][static_cast<size_t>(to)].data(); });
  }
}

/// Each rank sends the same bytes to all.
void all_to_all_ranks(Ranks& ranks) {
  std::vector<std::vector<uint8_t>> sent;
  for (int from = 0; from < kSize; from++) {
    const Op& op = ranks.ops[static_cast<size_t>(from)];
    sent.emplace_back(bytes_for_all(op, kSize));
    copy_for_all(op, from, kSize, sent.back().data());
  }
  const std::vector<Op>& ops = ranks.ops;
  for (int to = 0; to < kSize; to++) {
    auto received = sent;
    finish_small(ops[static_cast<size_t>(to)], to, kSize, [&](int from) {
      uint64_t offset = offset_of_part(ops[static_cast<size_t>(to)], to, kSize);
      for (int i = 0; i < to; i++) offset += part_to(ops[static_cast<size_t>(from)], i, kSize).bytes;
      return received[static_cast<size_t>(from)].data() + offset;
    });
  }
}

}  // namespace

TEST_CASE("a small collective has the same result with both exchanges") {
  constexpr int kRoot = 1;
  const Values sums{number(0, 0) + number(1, 0) + number(2, 0), number(0, 1) + number(1, 1) + number(2, 1)};
  const auto twice = [](const Values& values) {
    Values both = values;
    both.insert(both.end(), values.begin(), values.end());
    return both;
  };
  const auto own = [](int rank) { return Values{number(rank, 0), number(rank, 1)}; };
  const auto gathered = [&] {
    Values all;
    for (int from = 0; from < kSize; from++) {
      for (const int32_t value : own(from)) all.push_back(value);
    }
    return all;
  };
  const auto sum_for = [](int to) { return number(0, to) + number(1, to) + number(2, to); };
  const auto length = [](int rank) { return static_cast<size_t>(rank); };
  struct Expected {
    uint32_t opcode;
    std::function<Values(int)> values;
  };
  const std::vector<Expected> all{
      {C10D_OP_ALLREDUCE, [&](int) { return sums; }},
      {C10D_OP_ALLREDUCE_COALESCED, [&](int) { return twice(sums); }},
      {C10D_OP_REDUCE, [&](int rank) { return rank == kRoot ? sums : own(rank); }},
      {C10D_OP_BROADCAST, [&](int) { return own(kRoot); }},
      {C10D_OP_ALLGATHER, [&](int) { return gathered(); }},
      {C10D_OP_ALLGATHER_BASE, [&](int) { return gathered(); }},
      {C10D_OP_GATHER, [&](int rank) { return rank == kRoot ? gathered() : Values{}; }},
      {C10D_OP_SCATTER,
       [&](int rank) {
         return Values{number(kRoot, rank), -1};
       }},
      {C10D_OP_REDUCE_SCATTER, [&](int rank) { return Values(length(rank) + 1, sum_for(rank)); }},
      {C10D_OP_REDUCE_SCATTER_BASE,
       [&](int rank) {
         return Values{sum_for(rank), 3 * rank};
       }},
      {C10D_OP_ALLTOALL,
       [&](int rank) {
         Values values;
         for (int from = 0; from < kSize; from++) values.insert(values.end(), length(rank), number(from, rank));
         return values;
       }},
  };
  for (const auto& [opcode, expected] : all) {
    for (const bool pairs : {true, false}) {
      CAPTURE(opcode);
      CAPTURE(pairs);
      Ranks ranks = ranks_of(opcode, kRoot);
      pairs ? one_to_one(ranks) : all_to_all_ranks(ranks);
      for (int rank = 0; rank < kSize; rank++) CHECK(ranks.results(rank) == expected(rank));
    }
  }
}

TEST_CASE("PREMUL_SUM and AVG") {
  for (const auto& [reduce_op, expected] :
       std::vector<std::pair<uint32_t, float>>{{C10D_AVG, 2}, {C10D_PREMUL_SUM, 3}}) {
    std::vector<float> values{1, 2, 3};
    std::vector<Op> ops(kSize);
    std::vector<std::vector<uint8_t>> sent;
    for (size_t rank = 0; rank < ops.size(); rank++) {
      ops[rank].request.opcode = C10D_OP_ALLREDUCE;
      ops[rank].request.dtype = C10D_FLOAT32;
      ops[rank].request.reduce_op = reduce_op;
      ops[rank].request.premul_factor = 0.5;
      ops[rank].outputs = {{reinterpret_cast<uint64_t>(&values[rank]), sizeof(float)}};
      sent.emplace_back(sizeof(float));
      copy_for_all(ops[rank], static_cast<int>(rank), kSize, sent.back().data());
    }
    finish_small(ops[1], 1, kSize, [&](int from) { return sent[static_cast<size_t>(from)].data(); });
    CHECK(values == std::vector<float>{1, expected, 3});
  }
}

TEST_CASE("the limit of a small collective") {
  std::vector<uint8_t> memory(2 * kMostCarried);
  const auto address = reinterpret_cast<uint64_t>(memory.data());
  Op op;
  op.request.opcode = C10D_OP_ALLREDUCE_COALESCED;
  op.request.dtype = C10D_UINT8;
  op.outputs = {{address, kMostCarried - 1}, {address, 1}};
  CHECK(is_small(op, kSize));
  op.outputs[1].bytes = 2;
  CHECK_FALSE(is_small(op, kSize));
  CHECK(bytes_for_all(op, kSize) == kMostCarried + 1);
  // A rank that is not the root knows how much the root has for all.
  op.request.opcode = C10D_OP_SCATTER;
  op.outputs = {{address, 400}};
  CHECK(bytes_for_all(op, kSize) == 1200);
}
