#include "world.h"

#include <algorithm>

#include "config.h"

namespace cuemu {

World& World::the() {
  static auto& world = *new World();
  return world;
}

World::World() {
  for (int index = 0; index < config().devices; index++) devices.push_back(std::make_unique<Device>(index));
}

Device* World::device(int index) {
  return index >= 0 && index < static_cast<int>(devices.size()) ? devices[static_cast<size_t>(index)].get() : nullptr;
}

Device* World::device_at(uint64_t address) {
  for (const auto& device : devices) {
    if (device->has_address(address)) return device.get();
  }
  return nullptr;
}

BlockPtr World::block_at(uint64_t address, size_t bytes) {
  const auto after = blocks.upper_bound(address);
  if (after == blocks.begin()) return nullptr;
  const auto& block = std::prev(after)->second;
  const uint64_t offset = address - block->address;
  return offset < block->bytes && bytes <= block->bytes - offset ? block : nullptr;
}

CUresult World::await(Lock& lock, const Device& device, const Points& points) {
  for (const auto& point : points) {
    advanced_.wait(lock, [&] { return point->complete || device.error.load() != CUDA_SUCCESS; });
  }
  return device.error.load();
}

}  // namespace cuemu
