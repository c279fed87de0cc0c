#include "software_device/memory.h"

#include <algorithm>
#include <cstdio>

#include "ops/failure.h"

namespace c10d::softdev {

namespace {

/// Address space of each device: above that of a process, and below the largest integer of JavaScript.
constexpr uint64_t kDeviceSpace = uint64_t{1} << 48;
constexpr int32_t kMaxDevices = 30;
constexpr uint64_t kAlignment = 256;
constexpr uint64_t kLargestBlock = uint64_t{1} << 32;

uint64_t space_of(int32_t device) { return kDeviceSpace * (static_cast<uint64_t>(device) + 1); }

}  // namespace

std::string text_of_range(uint64_t address, uint64_t bytes) {
  char text[64];
  std::snprintf(text, sizeof text, "%llu bytes at 0x%llx", static_cast<unsigned long long>(bytes),
                static_cast<unsigned long long>(address));
  return text;
}

Memory& Memory::all() {
  // Never destroyed, since the thread of the machine runs until the process ends.
  static auto* const memory = new Memory;
  return *memory;
}

uint64_t Memory::allocate(int32_t device, uint64_t bytes) {
  if (device < 0 || device >= kMaxDevices) throw Failure(C10D_ERR_INVALID, "no such device");
  if (bytes > kLargestBlock) throw Failure(C10D_ERR_INVALID, "out of device memory");
  auto block = std::make_shared<Block>(bytes, kPoison);
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t& next = next_.try_emplace(device, space_of(device) + kAlignment).first->second;
  const uint64_t address = next;
  // Leaves a gap between two blocks.
  next += (bytes + kAlignment) / kAlignment * kAlignment + kAlignment;
  blocks_.emplace(address, std::move(block));
  return address;
}

void Memory::free(uint64_t address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (blocks_.erase(address) == 0) throw Failure(C10D_ERR_INVALID, "no block starts at this address");
}

std::shared_ptr<Memory::Block> Memory::block_at(uint64_t address, uint64_t bytes, uint64_t& offset) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto found = blocks_.upper_bound(address);
  if (found == blocks_.begin()) return nullptr;
  found--;
  offset = address - found->first;
  const uint64_t size = found->second->size();
  return offset <= size && bytes <= size - offset ? found->second : nullptr;
}

bool Memory::holds(int32_t device, uint64_t address, uint64_t bytes) const {
  if (bytes == 0) return true;
  uint64_t offset = 0;
  const bool here = address >= space_of(device) && address < space_of(device + 1);
  return here && block_at(address, bytes, offset) != nullptr;
}

void Memory::read(uint64_t from, void* to, uint64_t bytes) const {
  if (bytes == 0) return;
  uint64_t offset = 0;
  const auto block = block_at(from, bytes, offset);
  if (block == nullptr) throw Failure(C10D_ERR_BACKEND, "bad address on the device: " + text_of_range(from, bytes));
  std::copy_n(block->data() + offset, bytes, static_cast<uint8_t*>(to));
}

void Memory::write(uint64_t to, const void* from, uint64_t bytes) {
  if (bytes == 0) return;
  uint64_t offset = 0;
  const auto block = block_at(to, bytes, offset);
  if (block == nullptr) throw Failure(C10D_ERR_BACKEND, "bad address on the device: " + text_of_range(to, bytes));
  std::copy_n(static_cast<const uint8_t*>(from), bytes, block->data() + offset);
}

void Memory::fill(uint64_t to, uint8_t byte, uint64_t bytes) {
  const std::vector<uint8_t> pattern(bytes, byte);
  write(to, pattern.data(), bytes);
}

size_t Memory::blocks() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return blocks_.size();
}

}  // namespace c10d::softdev
