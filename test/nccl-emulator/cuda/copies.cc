// Copies and fills.
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "calls.h"
#include "config.h"
#include "faults.h"

namespace cuemu {

namespace {

/// One end of a copy.
struct Place {
  uint64_t address;
  bool on_device;
  uint8_t* alias = nullptr;
  /// nullptr: pageable memory of the host.
  BlockPtr block = nullptr;
};

Place on_device(CUdeviceptr address) { return {address, true}; }
Place on_host(const void* address) { return {reinterpret_cast<uint64_t>(address), false}; }

unsigned long long hex(uint64_t address) { return address; }

/// Looks up what the range is; an error, and a fault, if it may not be used so. With the mutex of the world held.
CUresult find(const char* call, Place& place, size_t bytes) {
  World& world = World::the();
  place.block = world.block_at(place.address, bytes);
  if (place.block != nullptr && (place.on_device || place.block->pinned)) {
    place.alias = place.block->alias + (place.address - place.block->address);
    return CUDA_SUCCESS;
  }
  if (place.on_device || place.block != nullptr || world.block_at(place.address, 1) != nullptr ||
      world.device_at(place.address) != nullptr) {
    return fault(CUDA_ERROR_INVALID_VALUE, "%s: %zu bytes at 0x%llx are not within one allocation of %s memory", call,
                 bytes, hex(place.address), place.on_device ? "device" : "host");
  }
  if (place.address == 0) return CUDA_ERROR_INVALID_VALUE;
  place.alias = reinterpret_cast<uint8_t*>(place.address);
  return CUDA_SUCCESS;
}

bool overlaps(const Place& to, const Place& from, size_t bytes) {
  return to.alias < from.alias + bytes && from.alias < to.alias + bytes;
}

/// Whether a copy is done when its call returns. As with CUDA, copies to and from pageable memory wait for what they have
/// to in any case.
enum class Wait { never, if_host, always };

/// `to` and `from` in the order of a stream. What is at pageable addresses is read now, and written before this returns.
CUresult copy(const char* call, Device& device, CUstream handle, Place to, Place from, size_t bytes, Wait wait) {
  World& world = World::the();
  World::Lock lock(world.mutex);
  StreamPtr stream;
  CUresult error = find_stream(call, device, handle, stream);
  if (error != CUDA_SUCCESS) return error;
  if (bytes == 0) return CUDA_SUCCESS;
  for (Place* const place : {&to, &from}) {
    error = find(call, *place, bytes);
    if (error != CUDA_SUCCESS) return error;
  }
  if (overlaps(to, from, bytes)) {
    fault(CUDA_SUCCESS, "%s: from %zu bytes at 0x%llx to 0x%llx, which overlaps", call, bytes, hex(from.address),
          hex(to.address));
  }
  if (config().null_mode) {
    lock.unlock();
    std::memmove(to.alias, from.alias, bytes);
    return CUDA_SUCCESS;
  }
  if (from.block == nullptr && wait == Wait::if_host) {
    error = world.await(lock, stream->device, stream->pending());
    if (error != CUDA_SUCCESS) return error;
  }
  Item item;
  item.what = call;
  for (const Place& place : {to, from}) {
    if (place.block != nullptr) item.uses.push_back(place.block);
  }
  std::shared_ptr<std::vector<uint8_t>> staged;
  if (from.block == nullptr) staged = std::make_shared<std::vector<uint8_t>>(from.alias, from.alias + bytes);
  // Until it is done, the result is poison, not the bytes from before.
  const bool poisons = !overlaps(to, from, bytes);
  item.work = [to = to.alias, from = staged ? staged->data() : from.alias, bytes, staged, poisons] {
    if (poisons) std::memset(to, poison, bytes);
    cuemu_nap("copies");
    std::memmove(to, from, bytes);
    return 0;
  };
  const PointPtr done = item.done;
  stream->put(std::move(item));
  const bool waits = wait == Wait::always || to.block == nullptr || (wait == Wait::if_host && from.block != nullptr);
  return waits ? world.await(lock, stream->device, {done}) : CUDA_SUCCESS;
}

CUresult fill(const char* call, Device& device, CUstream handle, CUdeviceptr address, unsigned char value,
              size_t bytes) {
  World& world = World::the();
  World::Lock lock(world.mutex);
  StreamPtr stream;
  CUresult error = find_stream(call, device, handle, stream);
  if (error != CUDA_SUCCESS) return error;
  if (bytes == 0) return CUDA_SUCCESS;
  Place place = on_device(address);
  error = find(call, place, bytes);
  if (error != CUDA_SUCCESS) return error;
  if (config().null_mode) {
    lock.unlock();
    std::memset(place.alias, value, bytes);
    return CUDA_SUCCESS;
  }
  Item item;
  item.what = call;
  item.uses.push_back(place.block);
  item.work = [to = place.alias, value, bytes] {
    std::memset(to, value, bytes);
    return 0;
  };
  stream->put(std::move(item));
  return CUDA_SUCCESS;
}

/// Whether the address is on the device of the context.
bool is_in(CUdeviceptr address, CUcontext context) {
  const Device* const device = World::the().device(Device::index_of(context));
  return device != nullptr && device->active && device->has_address(address);
}

}  // namespace

}  // namespace cuemu

using cuemu::Device;
using cuemu::Wait;

extern "C" {

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return cuemu::in_context("cuMemcpyHtoD", [&](Device& device) {
    return copy("cuMemcpyHtoD", device, nullptr, cuemu::on_device(to), cuemu::on_host(from), bytes, Wait::if_host);
  });
}

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return cuemu::in_context("cuMemcpyDtoH", [&](Device& device) {
    return copy("cuMemcpyDtoH", device, nullptr, cuemu::on_host(to), cuemu::on_device(from), bytes, Wait::always);
  });
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return cuemu::in_context("cuMemcpyDtoD", [&](Device& device) {
    return copy("cuMemcpyDtoD", device, nullptr, cuemu::on_device(to), cuemu::on_device(from), bytes, Wait::never);
  });
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return cuemu::in_context("cuMemcpyHtoDAsync", [&](Device& device) {
    return copy("cuMemcpyHtoDAsync", device, stream, cuemu::on_device(to), cuemu::on_host(from), bytes, Wait::never);
  });
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return cuemu::in_context("cuMemcpyDtoHAsync", [&](Device& device) {
    return copy("cuMemcpyDtoHAsync", device, stream, cuemu::on_host(to), cuemu::on_device(from), bytes, Wait::never);
  });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return cuemu::in_context("cuMemcpyDtoDAsync", [&](Device& device) {
    return copy("cuMemcpyDtoDAsync", device, stream, cuemu::on_device(to), cuemu::on_device(from), bytes, Wait::never);
  });
}

CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes,
                           CUstream stream) {
  return cuemu::in_context("cuMemcpyPeerAsync", [&](Device& device) -> CUresult {
    if (bytes > 0 && !(cuemu::is_in(to, to_context) && cuemu::is_in(from, from_context))) {
      return cuemu::fault(CUDA_ERROR_INVALID_VALUE,
                          "cuMemcpyPeerAsync: an address is not on the device of its context");
    }
    return copy("cuMemcpyPeerAsync", device, stream, cuemu::on_device(to), cuemu::on_device(from), bytes, Wait::never);
  });
}

CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, size_t count) {
  return cuemu::in_context(
      "cuMemsetD8", [&](Device& device) { return cuemu::fill("cuMemsetD8", device, nullptr, address, value, count); });
}

CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t count, CUstream stream) {
  return cuemu::in_context("cuMemsetD8Async", [&](Device& device) {
    return cuemu::fill("cuMemsetD8Async", device, stream, address, value, count);
  });
}

}  // extern "C"
