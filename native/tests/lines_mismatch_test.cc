// Ranks whose calls differ: all of them fail, with the calls of two.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "lines_ranks.h"

using namespace c10d;
using namespace c10d::gloo_shim;
using namespace c10d::test;

namespace {

/// A rank's op, with the memory that it needs.
class RankCall {
 public:
  RankCall(uint32_t opcode, size_t count, int size, int rank, int root = -1) {
    const auto n = static_cast<size_t>(size);
    const auto list = [&] {
      std::vector<c10d_buffer> buffers;
      for (size_t i = 0; i < n; i++) buffers.push_back(make(count));
      return buffers;
    };
    using Buffers = std::vector<c10d_buffer>;
    switch (opcode) {
      case C10D_OP_ALLGATHER:
        op_ = make_op(opcode, {make(count)}, list());
        break;
      case C10D_OP_ALLGATHER_BASE:
        op_ = make_op(opcode, {make(count)}, {make(count * n)});
        break;
      case C10D_OP_REDUCE_SCATTER:
        op_ = make_op(opcode, list(), {make(count)});
        break;
      case C10D_OP_REDUCE_SCATTER_BASE:
        op_ = make_op(opcode, {make(count * n)}, {make(count)});
        break;
      case C10D_OP_GATHER:
        op_ = make_op(opcode, {make(count)}, rank == root ? list() : Buffers{}, root);
        break;
      case C10D_OP_SCATTER:
        op_ = make_op(opcode, rank == root ? list() : Buffers{}, {make(count)}, root);
        break;
      case C10D_OP_ALLTOALL:
        op_ = make_op(opcode, list(), list());
        break;
      case C10D_OP_BARRIER:
        op_ = make_op(opcode, {}, {});
        break;
      default:
        op_ = make_op(opcode, {}, {make(count)}, root);
    }
  }

  Op& op() { return op_; }

 private:
  c10d_buffer make(size_t count) {
    memory_.push_back(std::make_unique<Values>(count));
    return buffer_of(*memory_.back());
  }

  std::vector<std::unique_ptr<Values>> memory_;
  Op op_;
};

struct Variant {
  const char* what;
  uint32_t opcode;
  uint32_t other_opcode;
  size_t other_count;
  int other_root;
  std::function<void(Op&)> change;
};

const std::vector<Variant> kVariants{
    {"reduce op", C10D_OP_ALLREDUCE, C10D_OP_ALLREDUCE, 0, 0, [](Op& op) { op.request.reduce_op = C10D_MAX; }},
    {"dtype", C10D_OP_ALLREDUCE, C10D_OP_ALLREDUCE, 0, 0, [](Op& op) { op.request.dtype = C10D_FLOAT32; }},
    {"size", C10D_OP_ALLREDUCE, C10D_OP_ALLREDUCE, 1, 0, {}},
    {"op", C10D_OP_ALLREDUCE, C10D_OP_BROADCAST, 0, 0, {}},
    {"barrier", C10D_OP_ALLREDUCE, C10D_OP_BARRIER, 0, 0, {}},
    {"kind of barrier", C10D_OP_BARRIER, C10D_OP_BARRIER, 0, 0, [](Op& op) { op.request.flags = C10D_FLAG_MONITORED; }},
    {"root", C10D_OP_BROADCAST, C10D_OP_BROADCAST, 0, 1, {}},
    {"size", C10D_OP_BROADCAST, C10D_OP_BROADCAST, 1, 0, {}},
    {"root", C10D_OP_GATHER, C10D_OP_GATHER, 0, 1, {}},
    {"size", C10D_OP_GATHER, C10D_OP_GATHER, 1, 0, {}},
    {"root", C10D_OP_SCATTER, C10D_OP_SCATTER, 0, 1, {}},
    {"size", C10D_OP_SCATTER, C10D_OP_SCATTER, 1, 0, {}},
    {"size", C10D_OP_REDUCE, C10D_OP_REDUCE, 1, 0, {}},
    {"root", C10D_OP_REDUCE, C10D_OP_REDUCE, 0, 1, {}},
    {"size", C10D_OP_ALLGATHER, C10D_OP_ALLGATHER, 1, 0, {}},
    {"layout", C10D_OP_ALLGATHER, C10D_OP_ALLGATHER_BASE, 0, 0, {}},
    {"size", C10D_OP_REDUCE_SCATTER, C10D_OP_REDUCE_SCATTER, 1, 0, {}},
    {"dtype", C10D_OP_REDUCE_SCATTER_BASE, C10D_OP_REDUCE_SCATTER_BASE, 0, 0,
     [](Op& op) { op.request.dtype = C10D_UINT32; }},
    {"parts", C10D_OP_ALLTOALL, C10D_OP_ALLTOALL, 1, 0, {}},
};

}  // namespace

TEST_CASE("every difference is found by every rank, whichever is the odd one") {
  for (const int size : {2, 3}) {
    for (const size_t count : {size_t{1}, size_t{50'000}}) {
      for (const auto& variant : kVariants) {
        for (int odd = 0; odd < size; odd++) {
          // Each takes a while, since ranks give each other the time to find out.
          if (size == 3 && (count > 1) != (odd == 1)) continue;
          CAPTURE(size);
          CAPTURE(count);
          CAPTURE(variant.what);
          CAPTURE(variant.opcode);
          CAPTURE(odd);
          auto ranks = connect_ranks(size);
          std::vector<std::string> failures(static_cast<size_t>(size));
          std::vector<int32_t> status(static_cast<size_t>(size));
          on_each(size, [&](int rank) {
            const bool is_odd = rank == odd;
            RankCall call(is_odd ? variant.other_opcode : variant.opcode, count + (is_odd ? variant.other_count : 0),
                          size, rank, is_odd ? variant.other_root : 0);
            call.op().deadline = Clock::time_point::max();
            if (is_odd && variant.change) variant.change(call.op());
            const auto own = static_cast<size_t>(rank);
            try {
              run_in_turn(call.op(), 1, *ranks[own]);
            } catch (const Failure& failure) {
              status[own] = failure.status();
              failures[own] = failure.text();
            } catch (const LineBroken& line) {
              failures[own] = "line " + std::to_string(line.rank) + ": " + line.what;
            }
            // As the engine does when a group has failed.
            ranks[own]->abort();
            ranks[own].reset();
          });
          for (size_t rank = 0; rank < failures.size(); rank++) {
            CHECK(status[rank] == C10D_ERR_DESYNC);
            CHECK(failures[rank].find("rank " + std::to_string(odd) + " called") != std::string::npos);
            CHECK(failures[rank].find("as collective #1") != std::string::npos);
          }
        }
      }
    }
  }
}

TEST_CASE("a rank that has left out a call, and lists of other sizes") {
  for (const bool left_out : {true, false}) {
    const auto ranks = connect_ranks(2);
    std::vector<std::string> failures(2);
    on_each(2, [&](int rank) {
      Lines& lines = *ranks[static_cast<size_t>(rank)];
      Values values(6);
      failures[static_cast<size_t>(rank)] = failure_of([&] {
        if (left_out) {
          if (rank == 0) run_in_turn(make_op(C10D_OP_BROADCAST, {}, {buffer_of(values)}, 0), 1, lines);
          return run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(values)}), rank == 0 ? 2 : 1, lines);
        }
        const size_t first = rank == 0 ? 2 : 4;
        run_in_turn(make_op(C10D_OP_ALLREDUCE_COALESCED, {},
                            {buffer_of(values, 0, first), buffer_of(values, first, 6 - first)}),
                    1, lines);
      });
    });
    for (const auto& failure : failures) {
      CHECK(failure.rfind(left_out ? "rank 0 called broadcast(int32[6], root 0) as collective #1, rank 1 called "
                                     "allReduce(int32[6], SUM)"
                                   : "rank 0 called allReduceCoalesced(2 tensors of int32, 6 elements, SUM) as "
                                     "collective #1, rank 1 called allReduceCoalesced(2 tensors of int32, 6 elements, "
                                     "SUM) with tensors of other sizes",
                          0) == 0);
    }
  }
}

TEST_CASE("a mismatch is found at once, but waited out only by who may wait") {
  const auto ranks = connect_ranks(3);
  Values values(4);
  const auto begin = [&](uint32_t opcode, int rank, Op& op) {
    op = make_op(opcode, {}, {buffer_of(values)}, opcode == C10D_OP_BROADCAST ? 0 : -1);
    op.number = 1;
    auto collective = std::make_unique<DirectCollective>(op, *ranks[static_cast<size_t>(rank)]);
    // As kick() calls it, on the host's thread.
    CHECK(!collective->begin());
    return collective;
  };
  Op ops[2];
  const auto first = begin(C10D_OP_BROADCAST, 1, ops[0]);
  const auto second = begin(C10D_OP_ALLREDUCE, 0, ops[1]);
  // Rank 2 has not come, so this one would be waited for.
  CHECK(!second->finish_by(Clock::now()));
  std::thread late([&] {
    Values own(4);
    CHECK(failure_of([&] {
            run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(own)}), 1, *ranks[2]);
          }).find("rank 1 called broadcast") != std::string::npos);
  });
  const auto failure = failure_of([&] { second->finish(); });
  CHECK(failure.rfind("rank 0 called allReduce(int32[4], SUM) as collective #1, rank 1 called broadcast", 0) == 0);
  late.join();
  CHECK(failure_of([&] { first->finish(); }).find("rank 0 called allReduce") != std::string::npos);
}

TEST_CASE("with many ranks, neighbours of the odd one name it") {
  constexpr int kSize = 10;
  constexpr int kOdd = 4;
  const auto ranks = connect_ranks(kSize);
  std::vector<std::string> failures(kSize);
  on_each(kSize, [&](int rank) {
    Values values(1);
    failures[static_cast<size_t>(rank)] = failure_of([&] {
      run_in_turn(make_op(C10D_OP_BROADCAST, {}, {buffer_of(values)}, rank == kOdd ? kOdd : 0), 1,
                  *ranks[static_cast<size_t>(rank)]);
    });
    // As the engine does.
    if (!failures[static_cast<size_t>(rank)].empty()) {
      for (const auto& lines : ranks) lines->abort();
    }
  });
  for (const int rank : {kOdd - 1, kOdd, kOdd + 1}) {
    CHECK(failures[static_cast<size_t>(rank)].find("rank 4 called broadcast(int32[1], root 4)") != std::string::npos);
  }
}

TEST_CASE("a monitored barrier names the ranks that have not come") {
  const auto ranks = connect_ranks(4);
  std::vector<std::string> failures(4);
  on_each(4, [&](int rank) {
    if (rank == 2) return;
    auto op = make_op(C10D_OP_BARRIER, {}, {});
    op.request.flags = C10D_FLAG_MONITORED | C10D_FLAG_WAIT_ALL_RANKS;
    op.request.timeout_ms = 100;
    op.deadline = Clock::now() + std::chrono::milliseconds(rank == 0 ? 2'100 : 100);
    failures[static_cast<size_t>(rank)] = failure_of([&] { run_in_turn(op, 1, *ranks[static_cast<size_t>(rank)]); });
  });
  CHECK(failures[0] == "[Rank 0]: Rank 2 failed to pass monitoredBarrier in 100 ms");
  CHECK(failures[1] == "rank 0 did not answer in monitoredBarrier");
}

TEST_CASE("a monitored barrier lets all go when all have come") {
  const auto ranks = connect_ranks(3);
  std::vector<std::string> failures(3);
  on_each(3, [&](int rank) {
    auto op = make_op(C10D_OP_BARRIER, {}, {});
    op.request.flags = C10D_FLAG_MONITORED;
    op.deadline = Clock::time_point::max();
    failures[static_cast<size_t>(rank)] = failure_of([&] {
      for (uint32_t turn = 1; turn <= 3; turn++) run_in_turn(op, turn, *ranks[static_cast<size_t>(rank)]);
    });
  });
  CHECK(failures == std::vector<std::string>(3));
}
