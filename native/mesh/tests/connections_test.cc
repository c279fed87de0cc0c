// Collectives over Connections between threads: results on every rank, turns, and how they fail.
#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "connected_ranks.h"

using namespace c10d;
using namespace c10d::test;

namespace {

/// A rank's input: a different value at each index and on each rank.
Values input_of(int rank, size_t count) {
  Values values(count);
  std::iota(values.begin(), values.end(), 1'000'000 * (rank + 1));
  return values;
}

Values sum(int size, size_t count) {
  Values total(count);
  for (int rank = 0; rank < size; rank++) {
    const auto values = input_of(rank, count);
    for (size_t i = 0; i < count; i++) total[i] += values[i];
  }
  return total;
}

Values slice(const Values& values, size_t begin, size_t count) {
  const auto from = values.begin() + static_cast<std::ptrdiff_t>(begin);
  return {from, from + static_cast<std::ptrdiff_t>(count)};
}

const std::vector<size_t> kCounts{0, 1, 2, 5, 1000, 8192, 8193, 16'385, 50'000, 300'007};

}  // namespace

TEST_CASE("every collective has the right result on every rank, for all sizes") {
  for (const int size : {2, 3, 4, 5}) {
    CAPTURE(size);
    const auto ranks = connect_ranks(size);
    const auto n = static_cast<size_t>(size);
    uint32_t turn = 0;
    const auto run = [&](auto body) {
      turn++;
      on_each(size, [&](int rank) { body(rank, *ranks[static_cast<size_t>(rank)]); });
    };
    std::vector<std::string> wrong;
    std::mutex mutex;
    const auto expect = [&](bool right, const char* what, int rank, size_t count) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!right) wrong.push_back(std::string(what) + ", rank " + std::to_string(rank) + ", " + std::to_string(count));
    };
    for (const size_t count : kCounts) {
      const auto total = sum(size, count);
      run([&](int rank, Connections& connections) {
        auto values = input_of(rank, count);
        run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(values)}), turn, connections);
        expect(values == total, "all-reduce", rank, count);
      });
      run([&](int rank, Connections& connections) {
        auto values = input_of(rank, count);
        const size_t half = count / 2;
        auto op = make_op(C10D_OP_ALLREDUCE_COALESCED, {},
                          {buffer_of(values, 0, half), buffer_of(values, half, count - half)});
        run_in_turn(op, turn, connections);
        expect(values == total, "all-reduce of a list", rank, count);
      });
      run([&](int rank, Connections& connections) {
        auto values = input_of(rank, count * n);
        Values part(count);
        run_in_turn(make_op(C10D_OP_REDUCE_SCATTER_BASE, {buffer_of(values)}, {buffer_of(part)}), turn, connections);
        expect(part == slice(sum(size, count * n), count * static_cast<size_t>(rank), count), "reduce-scatter", rank,
               count);
        expect(values == input_of(rank, count * n), "input of reduce-scatter", rank, count);
      });
      run([&](int rank, Connections& connections) {
        auto part = input_of(rank, count);
        Values all(count * n);
        run_in_turn(make_op(C10D_OP_ALLGATHER_BASE, {buffer_of(part)}, {buffer_of(all)}), turn, connections);
        for (int other = 0; other < size; other++) {
          expect(slice(all, count * static_cast<size_t>(other), count) == input_of(other, count), "all-gather", rank,
                 count);
        }
      });
      run([&](int rank, Connections& connections) {
        auto input = input_of(rank, count * n);
        Values output(count * n);
        run_in_turn(make_op(C10D_OP_ALLTOALL_BASE, {buffer_of(input)}, {buffer_of(output)}), turn, connections);
        for (int other = 0; other < size; other++) {
          expect(slice(output, count * static_cast<size_t>(other), count) ==
                     slice(input_of(other, count * n), count * static_cast<size_t>(rank), count),
                 "all-to-all", rank, count);
        }
      });
      for (int root = 0; root < size; root++) {
        run([&](int rank, Connections& connections) {
          auto values = input_of(rank, count);
          run_in_turn(make_op(C10D_OP_BROADCAST, {}, {buffer_of(values)}, root), turn, connections);
          expect(values == input_of(root, count), "broadcast", rank, count);
        });
        const auto parts_of = [&](Values& all) {
          std::vector<c10d_buffer> parts;
          for (size_t i = 0; i < n; i++) parts.push_back(buffer_of(all, i * count, count));
          return parts;
        };
        run([&](int rank, Connections& connections) {
          auto part = input_of(rank, count);
          Values all(rank == root ? count * n : 0);
          const auto outputs = rank == root ? parts_of(all) : std::vector<c10d_buffer>{};
          run_in_turn(make_op(C10D_OP_GATHER, {buffer_of(part)}, outputs, root), turn, connections);
          for (int other = 0; rank == root && other < size; other++) {
            expect(slice(all, count * static_cast<size_t>(other), count) == input_of(other, count), "gather", rank,
                   count);
          }
        });
        run([&](int rank, Connections& connections) {
          auto all = input_of(root, count * n);
          Values part(count);
          const auto inputs = rank == root ? parts_of(all) : std::vector<c10d_buffer>{};
          run_in_turn(make_op(C10D_OP_SCATTER, inputs, {buffer_of(part)}, root), turn, connections);
          expect(part == slice(all, count * static_cast<size_t>(rank), count), "scatter", rank, count);
        });
      }
    }
    run([&](int, Connections& connections) { run_in_turn(make_op(C10D_OP_BARRIER, {}, {}), turn, connections); });
    CHECK(wrong == std::vector<std::string>{});
  }
}

TEST_CASE("sums of floats have the same bits on every rank, those of adding in the order of ranks") {
  constexpr int kSize = 4;
  constexpr size_t kCount = 70'001;
  const auto ranks = connect_ranks(kSize);
  const auto value = [](int rank, size_t i) {
    return static_cast<float>((i * 2'654'435'761U + static_cast<size_t>(rank) * 40'503U) % 1'000'003U) * 1e-3F;
  };
  std::vector<float> expected(kCount);
  for (size_t i = 0; i < kCount; i++) {
    expected[i] = value(0, i);
    for (int rank = 1; rank < kSize; rank++) expected[i] += value(rank, i);
  }
  uint32_t turn = 0;
  for (const size_t count : {size_t{100}, kCount}) {
    turn++;
    std::vector<std::vector<float>> results(kSize, std::vector<float>(count));
    on_each(kSize, [&](int rank) {
      auto& own = results[static_cast<size_t>(rank)];
      for (size_t i = 0; i < count; i++) own[i] = value(rank, i);
      auto op = make_op(C10D_OP_ALLREDUCE, {}, {{reinterpret_cast<uint64_t>(own.data()), count * sizeof(float)}});
      op.request.dtype = C10D_FLOAT32;
      run_in_turn(op, turn, *ranks[static_cast<size_t>(rank)]);
    });
    for (const auto& own : results) CHECK(std::memcmp(own.data(), expected.data(), count * sizeof(float)) == 0);
  }
}

TEST_CASE("collectives that threads begin in any order run in turn") {
  constexpr int kSize = 2;
  constexpr uint32_t kTurns = 40;
  const auto ranks = connect_ranks(kSize);
  std::vector<std::vector<Values>> results(kSize);
  for (auto& own : results) own.resize(kTurns);
  on_each(2 * kSize, [&](int thread) {
    const int rank = thread % kSize;
    const bool odd = thread >= kSize;
    for (uint32_t turn = odd ? 1 : 2; turn <= kTurns; turn += 2) {
      auto& values = results[static_cast<size_t>(rank)][turn - 1];
      values = Values(turn % 7 == 0 ? 40'000 : turn, static_cast<int32_t>(turn) * (rank + 1));
      run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(values)}), turn, *ranks[static_cast<size_t>(rank)]);
    }
  });
  for (const auto& own : results) {
    for (uint32_t turn = 1; turn <= kTurns; turn++) {
      CHECK(own[turn - 1] == Values(turn % 7 == 0 ? 40'000 : turn, static_cast<int32_t>(turn) * 3));
    }
  }
}

TEST_CASE("a collective that waits for a peer fails when the peer closes its connection") {
  auto ranks = connect_ranks(3);
  Values values(100'000);
  std::thread leaver([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    ranks[2].reset();
  });
  auto op = make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(values)});
  const auto failure = failure_of([&] { run_in_turn(op, 1, *ranks[0]); });
  leaver.join();
  CHECK(failure.rfind("rank 2: Connection", 0) == 0);
}

TEST_CASE("the rank that a collective waits for is known as soon as it has begun, and past its deadline") {
  const auto ranks = connect_ranks(2);
  Connections& connections = *ranks[0];
  Values values(1);
  const auto op = make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(values)});
  connections.await_turn(1);
  {
    DirectCollective begun(op, connections);
    CHECK(!begun.begin());
    CHECK(connections.awaited() == 1);
    CHECK(!begun.finish_by(Clock::now() + std::chrono::milliseconds(20)));
    CHECK(connections.awaited() == 1);
  }
  CHECK(connections.awaited() == -1);
}

TEST_CASE("abort wakes calls that wait for a peer or for their turn, and fails later ones") {
  const auto ranks = connect_ranks(2);
  Connections& connections = *ranks[0];
  Values first(1);
  Values second(1);
  std::string failures[2];
  std::thread waits([&] {
    failures[0] = failure_of([&] { run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(first)}), 1, connections); });
  });
  std::thread queues([&] {
    failures[1] = failure_of([&] { run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(second)}), 2, connections); });
  });
  while (connections.awaited() < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(connections.awaited() == 1);
  const auto begin = Clock::now();
  connections.abort();
  waits.join();
  queues.join();
  CHECK(Clock::now() - begin < std::chrono::seconds(2));
  CHECK(failures[0] == "the group was aborted");
  CHECK(failures[1] == "the group was aborted");
  Values third(1);
  CHECK(failure_of([&] { run_in_turn(make_op(C10D_OP_ALLREDUCE, {}, {buffer_of(third)}), 3, connections); }) ==
        "the group was aborted");
}

TEST_CASE("abort wakes a call that only sends to a peer that does not read") {
  const auto ranks = connect_ranks(2);
  Values values(16'000'000);
  std::string failure;
  std::thread sends([&] {
    failure = failure_of([&] { run_in_turn(make_op(C10D_OP_BROADCAST, {}, {buffer_of(values)}, 0), 1, *ranks[0]); });
  });
  while (ranks[0]->awaited() < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ranks[0]->abort();
  sends.join();
  CHECK(failure == "the group was aborted");
}
