// Ranks as threads of this process, with Connections to each other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "mesh/direct.h"
#include "ops/failure.h"

namespace c10d::test {

/// For each rank, its sockets to all others.
using Sockets = std::vector<std::vector<Fd>>;
Sockets connect_sockets(int size);
std::vector<std::unique_ptr<Connections>> connect_ranks(Sockets sockets);
inline std::vector<std::unique_ptr<Connections>> connect_ranks(int size) {
  return connect_ranks(connect_sockets(size));
}

template <class Body>
void on_each(int size, Body body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; rank++) threads.emplace_back([&body, rank] { body(rank); });
  for (auto& thread : threads) thread.join();
}

using Values = std::vector<int32_t>;

c10d_buffer buffer_of(Values& values, size_t begin, size_t count);
c10d_buffer buffer_of(Values& values);

/// With int32 and SUM.
Op make_op(uint32_t opcode, std::vector<c10d_buffer> inputs, std::vector<c10d_buffer> outputs, int root = -1);

/// Runs the `turn`-th collective of the group. None of its calls was refused.
void run_in_turn(Op& op, uint32_t turn, Connections& connections);
inline void run_in_turn(Op&& op, uint32_t turn, Connections& connections) { run_in_turn(op, turn, connections); }

/// The text of the failure, or an empty one.
template <class Body>
std::string failure_of(Body body) {
  try {
    body();
    return "";
  } catch (const ConnectionLost& lost) {
    return "rank " + std::to_string(lost.rank) + ": " + lost.what;
  } catch (const Failure& failure) {
    return failure.text();
  }
}

}  // namespace c10d::test
