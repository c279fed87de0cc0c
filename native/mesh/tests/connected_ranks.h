// Ranks in threads of this process, connected by lines.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/failure.h"
#include "mesh/direct.h"

namespace c10d::test {

/// By rank, its connections to all others.
using Sockets = std::vector<std::vector<Fd>>;
Sockets connect_sockets(int size);
std::vector<std::unique_ptr<Lines>> connect_ranks(Sockets sockets);
inline std::vector<std::unique_ptr<Lines>> connect_ranks(int size) { return connect_ranks(connect_sockets(size)); }

template <class Body>
void on_each(int size, Body body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; rank++) threads.emplace_back([&body, rank] { body(rank); });
  for (auto& thread : threads) thread.join();
}

using Values = std::vector<int32_t>;

c10d_buffer buffer_of(Values& values, size_t begin, size_t count);
c10d_buffer buffer_of(Values& values);

/// Of int32, and SUM.
Op make_op(uint32_t opcode, std::vector<c10d_buffer> inputs, std::vector<c10d_buffer> outputs, int root = -1);

/// The `turn`-th collective of the group, of whose calls none was refused.
void run_in_turn(Op& op, uint32_t turn, Lines& lines);
inline void run_in_turn(Op&& op, uint32_t turn, Lines& lines) { run_in_turn(op, turn, lines); }

/// The text of the failure, or an empty one.
template <class Body>
std::string failure_of(Body body) {
  try {
    body();
    return "";
  } catch (const LineBroken& line) {
    return "line " + std::to_string(line.rank) + ": " + line.what;
  } catch (const Failure& failure) {
    return failure.text();
  }
}

}  // namespace c10d::test
