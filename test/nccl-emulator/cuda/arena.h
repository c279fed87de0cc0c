// Memory of one device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

namespace cuemu {

/// Pages of a memfd, mapped twice: at the device's addresses, where no access is allowed, and hidden, where the emulator
/// uses them. It is never unmapped, so that late work on freed memory does not crash. The mutex of the world guards it.
class Arena {
 public:
  /// Throws std::system_error.
  explicit Arena(size_t capacity);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Address of a free range; none if the memory is used up. Freed ranges are used again as late as possible, so that a
  /// stale address is not an address of something else.
  std::optional<uint64_t> take(size_t bytes);
  void give_back(uint64_t address, size_t bytes);
  /// Counts a range as freed, whose addresses and pages stay as they are.
  void abandon(size_t bytes);

  bool contains(uint64_t address) const { return address - base_ < span_; }
  uint8_t* alias(uint64_t address) const { return hidden_ + (address - base_); }
  size_t capacity() const { return capacity_; }
  size_t available() const { return capacity_ - used_; }

 private:
  std::optional<uint64_t> find(uint64_t from, uint64_t to, size_t length) const;

  const size_t capacity_;
  const size_t span_;
  int file_ = -1;
  uint64_t base_ = 0;
  uint8_t* hidden_ = nullptr;
  size_t used_ = 0;
  uint64_t cursor_ = 0;
  /// Length by offset.
  std::map<uint64_t, size_t> taken_;
};

}  // namespace cuemu
