// Memory of the software device. Its addresses are not memory of the process: code that uses one without the device
// crashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace c10d::softdev {

/// What memory holds until something is written to it, and outputs of an op until it has ended.
constexpr uint8_t kPoison = 0xA5;

/// Memory of all devices: an address says which one it is on. No address is reused.
class Memory {
 public:
  static Memory& all();

  /// Throws Failure.
  uint64_t allocate(int32_t device, uint64_t bytes);
  void free(uint64_t address);
  /// Whether all of it lies in one allocation on this device.
  bool holds(int32_t device, uint64_t address, uint64_t bytes) const;

  /// Copies between host and device, or on a device. Only the thread of the machine may call these. Throws Failure.
  void read(uint64_t from, void* to, uint64_t bytes) const;
  void write(uint64_t to, const void* from, uint64_t bytes);
  void fill(uint64_t to, uint8_t byte, uint64_t bytes);

  /// Blocks that were not freed.
  size_t blocks() const;

 private:
  using Block = std::vector<uint8_t>;

  std::shared_ptr<Block> block_at(uint64_t address, uint64_t bytes, uint64_t& offset) const;

  mutable std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<Block>> blocks_;
  std::map<int32_t, uint64_t> next_;
};

/// E.g. "16 bytes at 0x1000000000040".
std::string text_of_range(uint64_t address, uint64_t bytes);

}  // namespace c10d::softdev
