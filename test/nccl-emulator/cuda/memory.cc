// Device memory and pinned host memory.
#include <sys/mman.h>

#include <cstring>

#include "calls.h"
#include "config.h"
#include "faults.h"

namespace cuemu {

namespace {

unsigned long long hex(uint64_t address) { return address; }

CUresult free_at(const char* call, uint64_t address, bool pinned) {
  World& world = World::the();
  World::Lock lock(world.mutex);
  const auto found = world.blocks.find(address);
  if (found == world.blocks.end() || found->second->freed || found->second->pinned != pinned) {
    return fault(CUDA_ERROR_INVALID_VALUE, "%s: 0x%llx is no allocation of its kind, or it was freed", call,
                 hex(address));
  }
  const BlockPtr block = found->second;
  world.free(lock, call, block);
  return CUDA_SUCCESS;
}

}  // namespace

void World::free(Lock& lock, const char* call, const BlockPtr& block) {
  block->freed = true;
  for (const auto& [number, registration] : registered) {
    if (registration.block != block) continue;
    fault(CUDA_SUCCESS, "%s: %zu bytes at 0x%llx of device %d are freed while they are registered: %s", call,
          block->bytes, hex(block->address), block->device, registration.what.c_str());
  }
  if (block->users > 0) {
    fault(CUDA_SUCCESS, "%s: %zu bytes at 0x%llx of device %d are freed while queued work uses them: %s", call,
          block->bytes, hex(block->address), block->device, block->last_user.c_str());
    await_for(lock, config().free_wait, [&] { return block->users == 0; });
  }
  const bool in_use = block->users > 0;
  blocks.erase(block->address);
  if (block->pinned) {
    if (!in_use) ::munmap(block->alias, block->bytes);
  } else if (in_use) {
    devices[static_cast<size_t>(block->device)]->arena().abandon(block->bytes);
  } else {
    devices[static_cast<size_t>(block->device)]->arena().give_back(block->address, block->bytes);
  }
}

}  // namespace cuemu

using cuemu::Block;
using cuemu::BlockPtr;
using cuemu::Device;
using cuemu::World;

extern "C" {

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return cuemu::in_context("cuMemAlloc", [&](Device& device) {
    if (address == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    World& world = World::the();
    World::Lock lock(world.mutex);
    const auto taken = device.arena().take(bytes);
    if (!taken) return CUDA_ERROR_OUT_OF_MEMORY;
    const auto block =
        std::make_shared<Block>(Block{*taken, bytes, device.index, false, device.arena().alias(*taken), false, 0, {}});
    lock.unlock();
    std::memset(block->alias, cuemu::poison, bytes);
    lock.lock();
    world.blocks[*taken] = block;
    *address = *taken;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return cuemu::in_context("cuMemFree", [&](const Device&) { return cuemu::free_at("cuMemFree", address, false); });
}

CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned flags) {
  return cuemu::in_context("cuMemHostAlloc", [&](const Device& device) {
    if (address == nullptr || bytes == 0 || flags > 7) return CUDA_ERROR_INVALID_VALUE;
    void* const taken = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (taken == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(taken, cuemu::poison, bytes);
    const auto number = reinterpret_cast<uint64_t>(taken);
    const auto block =
        std::make_shared<Block>(Block{number, bytes, device.index, true, static_cast<uint8_t*>(taken), false, 0, {}});
    const World::Lock lock(World::the().mutex);
    World::the().blocks[number] = block;
    *address = taken;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemFreeHost(void* address) {
  return cuemu::in_context("cuMemFreeHost", [&](const Device&) {
    return cuemu::free_at("cuMemFreeHost", reinterpret_cast<uint64_t>(address), true);
  });
}

CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  return cuemu::in_context("cuMemGetInfo", [&](Device& device) {
    if (free_bytes == nullptr || total == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const World::Lock lock(World::the().mutex);
    *free_bytes = device.arena().available();
    *total = device.arena().capacity();
    return CUDA_SUCCESS;
  });
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  return cuemu::in_context("cuMemGetAddressRange", [&](const Device&) {
    const World::Lock lock(World::the().mutex);
    const BlockPtr block = World::the().block_at(address, 1);
    if (block == nullptr) return CUDA_ERROR_NOT_FOUND;
    if (base != nullptr) *base = block->address;
    if (bytes != nullptr) *bytes = block->bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr address) {
  return cuemu::in_context("cuPointerGetAttribute", [&](const Device&) {
    if (value == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const World::Lock lock(World::the().mutex);
    const BlockPtr block = World::the().block_at(address, 1);
    if (block == nullptr) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
      case CU_POINTER_ATTRIBUTE_CONTEXT:
        *static_cast<CUcontext*>(value) = World::the().device(block->device)->context();
        break;
      case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *static_cast<unsigned*>(value) = block->pinned ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
        break;
      case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *static_cast<CUdeviceptr*>(value) = address;
        break;
      case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (!block->pinned) return CUDA_ERROR_INVALID_VALUE;
        *static_cast<void**>(value) = reinterpret_cast<void*>(address);
        break;
      case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *static_cast<int*>(value) = block->device;
        break;
      case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *static_cast<CUdeviceptr*>(value) = block->address;
        break;
      case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *static_cast<size_t*>(value) = block->bytes;
        break;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
