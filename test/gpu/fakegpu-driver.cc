// In front of FakeGPU's libcuda.so.1, for test/gpu/fakegpu: what that lacks of the driver's functions that this library
// calls. All others are FakeGPU's.
//
// Its device memory is host memory and its streams are counters: a copy is done when the call returns, a collective when
// ncclGroupEnd() does. So an event has happened when it was recorded, except that FakeGPU only says so after somebody has
// synchronized, or for the first event behind a collective.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

extern "C" {

using CUresult = int;
using CUdeviceptr = uint64_t;
struct CUstream_st;
struct CUevent_st;

constexpr CUresult kSuccess = 0;
constexpr CUresult kInvalidValue = 1;
constexpr CUresult kNotReady = 600;
constexpr int kMemoryType = 2;
constexpr int kDeviceOrdinal = 9;
constexpr int kRangeStart = 11;
constexpr int kRangeSize = 12;
constexpr unsigned kOnDevice = 2;

// FakeGPU's.
CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes);
CUresult cuMemFree(CUdeviceptr address);
CUresult cuDevicePrimaryCtxRelease(int device);
CUresult cuCtxGetDevice(int* device);
CUresult cuStreamSynchronize(CUstream_st* stream);
CUresult cuEventSynchronize(CUevent_st* event);

}  // extern "C"

namespace {

struct Block {
  size_t bytes;
  int device;
};

std::mutex mutex;
std::map<CUdeviceptr, Block> blocks;

/// The allocation that an address is in; nullptr if there is none. With the lock held.
const std::pair<const CUdeviceptr, Block>* block_of(CUdeviceptr address) {
  auto after = blocks.upper_bound(address);
  if (after == blocks.begin()) return nullptr;
  --after;
  return address < after->first + after->second.bytes ? &*after : nullptr;
}

}  // namespace

extern "C" {

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  const CUresult result = cuMemAlloc(address, bytes);
  if (result != kSuccess) return result;
  int device = 0;
  cuCtxGetDevice(&device);
  const std::lock_guard<std::mutex> lock(mutex);
  blocks[*address] = {bytes, device};
  return kSuccess;
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    blocks.erase(address);
  }
  return cuMemFree(address);
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto* block = block_of(address);
  if (block == nullptr) return kInvalidValue;
  if (base != nullptr) *base = block->first;
  if (bytes != nullptr) *bytes = block->second.bytes;
  return kSuccess;
}

CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr address) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto* block = block_of(address);
  if (block == nullptr) return kInvalidValue;
  switch (attribute) {
    case kMemoryType:
      *static_cast<unsigned*>(value) = kOnDevice;
      return kSuccess;
    case kDeviceOrdinal:
      *static_cast<int*>(value) = block->second.device;
      return kSuccess;
    case kRangeStart:
      *static_cast<CUdeviceptr*>(value) = block->first;
      return kSuccess;
    case kRangeSize:
      *static_cast<size_t*>(value) = block->second.bytes;
      return kSuccess;
    default:
      return kInvalidValue;
  }
}

CUresult cuDevicePrimaryCtxRelease_v2(int device) { return cuDevicePrimaryCtxRelease(device); }

CUresult cuLaunchHostFunc(CUstream_st* stream, void (*function)(void*), void* data) {
  const CUresult result = cuStreamSynchronize(stream);
  if (result == kSuccess) function(data);
  return result;
}

CUresult cuEventQuery(CUevent_st* event) {
  const CUresult result = cuEventSynchronize(event);
  return result == kNotReady ? kSuccess : result;
}

CUresult cuStreamQuery(CUstream_st* stream) { return cuStreamSynchronize(stream); }

}  // extern "C"
