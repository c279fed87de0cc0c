#include "device_memory_check.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <string>

namespace c10d::nccl_shim {

namespace {

/// CUDA's handles for its default streams: legacy, and per thread.
constexpr uint64_t kLastSpecialStream = 2;

/// Whether a call succeeded. Throws Failure if it failed for another reason than that what it asks about does not exist:
/// after an error of a kernel, every call does.
bool succeeds(CuResult result, const char* what) {
  switch (result) {
    case CuResult::success:
      return true;
    case CuResult::invalid_value:
    case CuResult::invalid_device:
    case CuResult::invalid_context:
    case CuResult::invalid_handle:
    case CuResult::not_found:
      return false;
    default:
      throw cuda_failure(result, what);
  }
}

std::string text_of_range(const c10d_buffer& buffer) {
  char text[64];
  std::snprintf(text, sizeof text, "%" PRIu64 " bytes at 0x%" PRIx64, buffer.bytes, buffer.address);
  return text;
}

}  // namespace

void DeviceMemoryCheck::require(const Op& op) {
  for (const auto* buffers : {&op.inputs, &op.outputs}) {
    for (const auto& buffer : *buffers) {
      if (buffer.bytes > 0) require(buffer);
    }
  }
  if ((op.request.flags & C10D_FLAG_STREAM) != 0) require_stream(op.request.stream);
}

void DeviceMemoryCheck::require(const c10d_buffer& buffer) {
  const uint64_t end = buffer.address + buffer.bytes;
  if (knows(buffer.address, end)) return;
  const ContextScope scope(context_);
  // Memory that was mapped in pieces is several allocations.
  if (finds(buffer.address) && (knows(buffer.address, end) || finds(end - 1))) return;
  throw Failure(C10D_ERR_INVALID,
                text_of_range(buffer) + " are not in memory of cuda:" + std::to_string(context_.ordinal()));
}

bool DeviceMemoryCheck::knows(uint64_t begin, uint64_t end) const {
  return std::any_of(known_.begin(), known_.end(),
                     [&](const Range& range) { return begin >= range.begin && end <= range.end; });
}

bool DeviceMemoryCheck::finds(uint64_t address) {
  const auto& cuda = load_library().cuda;
  unsigned type = 0;
  int ordinal = -1;
  CuAddress base = 0;
  size_t bytes = 0;
  const auto asks = [&](void* value, int attribute) {
    return succeeds(cuda.pointer_get_attribute(value, attribute, address), "cuPointerGetAttribute");
  };
  if (!asks(&type, kCuPointerMemoryType) || type != kCuMemoryOnDevice) return false;
  if (!asks(&ordinal, kCuPointerDeviceOrdinal) || ordinal != context_.ordinal()) return false;
  if (!succeeds(cuda.mem_get_address_range(&base, &bytes, address), "cuMemGetAddressRange")) return false;
  known_[next_] = {base, base + bytes};
  next_ = (next_ + 1) % known_.size();
  return true;
}

void DeviceMemoryCheck::require_stream(uint64_t handle) {
  if (handle <= kLastSpecialStream || handle == known_stream_) return;
  const ContextScope scope(context_);
  CuContext context = nullptr;
  const CuResult result = load_library().cuda.stream_get_ctx(reinterpret_cast<CuStream>(handle), &context);
  if (!succeeds(result, "cuStreamGetCtx") || context != context_.get()) {
    throw Failure(C10D_ERR_INVALID, "no such stream on cuda:" + std::to_string(context_.ordinal()));
  }
  known_stream_ = handle;
}

}  // namespace c10d::nccl_shim
