// An allocation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cuemu {

/// What fresh memory has, and memory to which a copy is under way.
constexpr int poison = 0xdb;

/// The mutex of the world guards what is not const.
struct Block {
  const uint64_t address;
  const size_t bytes;
  /// For pinned memory: whose context was current.
  const int device;
  const bool pinned;
  /// Address at which the CPU can use it.
  uint8_t* const alias;
  bool freed = false;
  /// Pieces of work, queued or running, that use it.
  int users = 0;
  /// The last that was put into a stream.
  std::string last_user;
};
using BlockPtr = std::shared_ptr<Block>;
using Blocks = std::vector<BlockPtr>;

}  // namespace cuemu
