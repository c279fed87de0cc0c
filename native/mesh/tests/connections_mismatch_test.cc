// Ranks whose calls differ: all of them fail, and name the calls of two.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "connected_ranks.h"

using namespace c10d;
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
    // A rank that calls something else sends no sizes of parts, or the others ignore them.
    {"op", C10D_OP_ALLTOALL, C10D_OP_BARRIER, 0, 0, {}},
    {"op", C10D_OP_ALLTOALL, C10D_OP_ALLGATHER, 0, 0, {}},
    {"dtype", C10D_OP_ALLTOALL, C10D_OP_ALLTOALL, 0, 0, [](Op& op) { op.request.dtype = C10D_FLOAT32; }},
};

/// An all-to-all with parts of `count` elements, and one element more from one rank to another.
class UnevenAllToAll {
 public:
  UnevenAllToAll(int rank, int size, size_t count, int from, int to) {
    const auto n = static_cast<size_t>(size);
    input_.assign(n * count + 1, rank + 1);
    output_.resize(n * count);
    std::vector<c10d_buffer> inputs;
    std::vector<c10d_buffer> outputs;
    for (size_t i = 0; i < n; i++) {
      const bool more = rank == from && static_cast<int>(i) == to;
      inputs.push_back(buffer_of(input_, i * count, count + (more ? 1 : 0)));
      outputs.push_back(buffer_of(output_, i * count, count));
    }
    op_ = make_op(C10D_OP_ALLTOALL, std::move(inputs), std::move(outputs));
    op_.number = 1;
  }

  Op& op() { return op_; }

 private:
  Values input_;
  Values output_;
  Op op_;
};

/// What the engine does when a group has failed.
void leave(std::unique_ptr<Connections>& connections) {
  connections->abort();
  connections.reset();
}

/// Sends until the buffers of the connection are full.
size_t fill(int socket) {
  const std::vector<char> junk(64 * 1024);
  size_t bytes = 0;
  for (;;) {
    const auto sent = ::send(socket, junk.data(), junk.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return bytes;
    bytes += static_cast<size_t>(sent);
  }
}

void drain(int socket, size_t bytes) {
  std::vector<char> junk(64 * 1024);
  while (bytes > 0) {
    const auto got = ::recv(socket, junk.data(), std::min(bytes, junk.size()), 0);
    if (got <= 0) return;
    bytes -= static_cast<size_t>(got);
  }
}

}  // namespace

TEST_CASE("every difference is found by every rank, whichever is the odd one") {
  for (const int size : {2, 3}) {
    for (const size_t count : {size_t{1}, size_t{50'000}}) {
      for (const auto& variant : kVariants) {
        for (int odd = 0; odd < size; odd++) {
          // Each takes a while, since ranks give each other time to compare.
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
            } catch (const ConnectionLost& lost) {
              failures[own] = "rank " + std::to_string(lost.rank) + ": " + lost.what;
            }
            leave(ranks[own]);
          });
          for (size_t rank = 0; rank < failures.size(); rank++) {
            CHECK(status[rank] == C10D_ERR_DESYNC);
            CHECK(failures[rank].find("rank " + std::to_string(odd) + " called") != std::string::npos);
            CHECK(failures[rank].find("as collective #1") != std::string::npos);
            // All ranks have all headers, so they name the same two.
            CHECK(failures[rank] == failures[0]);
          }
        }
      }
    }
  }
}

TEST_CASE("all ranks name the two whose parts of an all-to-all do not fit, also those whose own parts fit") {
  for (const int size : {3, 4, 8}) {
    for (const size_t count : {size_t{1}, size_t{250'000}}) {
      if (size == 8 && count > 1) continue;
      for (int from = 0; from < size; from += size == 8 ? 3 : 1) {
        CAPTURE(size);
        CAPTURE(count);
        CAPTURE(from);
        const int to = (from + 1) % size;
        auto ranks = connect_ranks(size);
        std::vector<std::optional<Failure>> failures(static_cast<size_t>(size));
        on_each(size, [&](int rank) {
          const auto own = static_cast<size_t>(rank);
          UnevenAllToAll call(rank, size, count, from, to);
          failures[own] = attempt([&] { run_in_turn(call.op(), 1, *ranks[own]); });
          leave(ranks[own]);
        });
        const std::string elements = std::to_string(count);
        const std::string text = "rank " + std::to_string(std::min(from, to)) +
                                 " called allToAll(int32) as collective #1, rank " +
                                 std::to_string(std::max(from, to)) + " called allToAll(int32), but rank " +
                                 std::to_string(from) + " sends int32[" + std::to_string(count + 1) + "] to rank " +
                                 std::to_string(to) + ", which expects int32[" + elements + "]";
        for (const auto& failure : failures) {
          REQUIRE(failure);
          CHECK(failure->text() == text);
          CHECK(failure->status() == C10D_ERR_DESYNC);
          CHECK(failure->mismatch() == C10D_MISMATCH_SPLITS);
        }
      }
    }
  }
}

TEST_CASE(
    "an all-to-all ends only when the sizes of all ranks have arrived, and is not waited for beyond its deadline") {
  const auto ranks = connect_ranks(3);
  // Rank 2 exchanges no data, so none is missing.
  std::vector<std::unique_ptr<UnevenAllToAll>> calls;
  for (int rank = 0; rank < 3; rank++) calls.push_back(std::make_unique<UnevenAllToAll>(rank, 3, 0, 0, 1));
  DirectCollective third(calls[2]->op(), *ranks[2]);
  CHECK(!third.begin());
  DirectCollective second(calls[1]->op(), *ranks[1]);
  CHECK(!second.begin());
  const auto until = Clock::now() + std::chrono::milliseconds(30);
  CHECK(!third.finish_by(until));
  CHECK(Clock::now() >= until);
  DirectCollective first(calls[0]->op(), *ranks[0]);
  CHECK(!first.begin());
  const std::string text = "rank 0 sends int32[1] to rank 1, which expects int32[0]";
  for (auto* const each : {&third, &second, &first}) {
    CHECK(failure_of([&] { each->finish(); }).find(text) != std::string::npos);
  }
}

TEST_CASE("two whose parts do not fit fail without waiting for a third rank that has not arrived") {
  const auto ranks = connect_ranks(3);
  std::vector<std::string> failures(2);
  const auto began = Clock::now();
  on_each(2, [&](int rank) {
    const auto own = static_cast<size_t>(rank);
    UnevenAllToAll call(rank, 3, 1, 1, 0);
    failures[own] = failure_of([&] { run_in_turn(call.op(), 1, *ranks[own]); });
  });
  CHECK(Clock::now() - began < std::chrono::seconds(10));
  for (const auto& failure : failures) {
    CHECK(failure.find("rank 1 sends int32[2] to rank 0, which expects int32[1]") != std::string::npos);
  }
}

TEST_CASE("a rank that finds a mismatch while a connection is full sends its header when there is room") {
  auto sockets = connect_sockets(3);
  const size_t junk = fill(sockets[0][2].get());
  const Fd out_of(::dup(sockets[2][0].get()));
  auto ranks = connect_ranks(std::move(sockets));
  std::vector<std::string> failures(3);
  on_each(3, [&](int rank) {
    const auto own = static_cast<size_t>(rank);
    if (rank == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      drain(out_of.get(), junk);
    }
    UnevenAllToAll call(rank, 3, 1, 0, 1);
    failures[own] = failure_of([&] { run_in_turn(call.op(), 1, *ranks[own]); });
    leave(ranks[own]);
  });
  for (const auto& failure : failures) {
    CHECK(failure.find("rank 0 sends int32[2] to rank 1, which expects int32[1]") != std::string::npos);
  }
}

TEST_CASE("a rank that skipped a call, and lists with other sizes") {
  for (const bool skipped : {true, false}) {
    const auto ranks = connect_ranks(2);
    std::vector<std::string> failures(2);
    on_each(2, [&](int rank) {
      Connections& connections = *ranks[static_cast<size_t>(rank)];
      Values values(6);
      failures[static_cast<size_t>(rank)] = failure_of([&] {
        if (skipped) {
          if (rank == 0) run_in_turn(make_op(C10D_OP_BROADCAST, {}, {buffer_of(values)}, 0), 1, connections);
          return run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(values)}), rank == 0 ? 2 : 1, connections);
        }
        const size_t first = rank == 0 ? 2 : 4;
        run_in_turn(make_op(C10D_OP_ALLREDUCE_COALESCED, {},
                            {buffer_of(values, 0, first), buffer_of(values, first, 6 - first)}),
                    1, connections);
      });
    });
    for (const auto& failure : failures) {
      CHECK(failure.rfind(skipped ? "rank 0 called broadcast(int32[6], root 0) as collective #1, rank 1 called "
                                    "allReduce(int32[6], SUM)"
                                  : "rank 0 called allReduceCoalesced(2 tensors of int32, 6 elements, SUM) as "
                                    "collective #1, rank 1 called allReduceCoalesced(2 tensors of int32, 6 elements, "
                                    "SUM) with tensors of other sizes",
                          0) == 0);
    }
  }
}

TEST_CASE("a mismatch is found at once, but only a call that may block waits for the others") {
  const auto ranks = connect_ranks(3);
  Values values(4);
  const auto begin = [&](uint32_t opcode, int rank, Op& op) {
    op = make_op(opcode, {}, {buffer_of(values)}, opcode == C10D_OP_BROADCAST ? 0 : -1);
    op.number = 1;
    auto collective = std::make_unique<DirectCollective>(op, *ranks[static_cast<size_t>(rank)]);
    // As kick() does on the host's thread.
    CHECK(!collective->begin());
    return collective;
  };
  Op ops[2];
  const auto first = begin(C10D_OP_BROADCAST, 1, ops[0]);
  const auto second = begin(C10D_OP_ALLREDUCE, 0, ops[1]);
  // Rank 2 has not arrived, so this one would wait for it.
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

TEST_CASE("with many ranks, the neighbours of the odd one name it") {
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
    // What the engine does.
    if (!failures[static_cast<size_t>(rank)].empty()) {
      for (const auto& connections : ranks) connections->abort();
    }
  });
  for (const int rank : {kOdd - 1, kOdd, kOdd + 1}) {
    CHECK(failures[static_cast<size_t>(rank)].find("rank 4 called broadcast(int32[1], root 4)") != std::string::npos);
  }
}

TEST_CASE("a monitored barrier names the ranks that have not arrived") {
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

TEST_CASE("a monitored barrier releases all ranks when all have arrived") {
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
