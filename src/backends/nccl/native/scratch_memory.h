// Memory of the group on its device, for ops that need some of their own. All users are in one stream, in order, so the
// next may use what the one before has used.
#pragma once

#include <cstddef>
#include <vector>

#include "device_context.h"

namespace c10d::nccl_shim {

class ScratchMemory {
 public:
  explicit ScratchMemory(const DeviceContext& context) : context_(context) {}
  ~ScratchMemory();
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;

  /// At least this many bytes, the same each time until more are needed. The context must be current. Throws Failure.
  CuAddress reserve(size_t bytes);

 private:
  const DeviceContext& context_;
  /// The last is the largest. Queued work may still use the others.
  std::vector<CuAddress> blocks_;
  size_t bytes_ = 0;
};

}  // namespace c10d::nccl_shim
