// Whether addresses are memory of a device: NCCL gets a host's address as it is, and the GPU stops at it.
#pragma once

#include <array>

#include "device_context.h"
#include "ops/op.h"

namespace c10d::nccl_shim {

/// Remembers the allocations that it has found, since asking the driver takes longer than the rest of a check. So it may
/// accept memory that was freed since. Not for several threads at a time.
class DeviceMemoryCheck {
 public:
  explicit DeviceMemoryCheck(const DeviceContext& context) : context_(context) {}

  /// Throws Failure: with C10D_ERR_INVALID if a buffer of the op, or its stream, is not on the device; with
  /// C10D_ERR_BACKEND if the driver cannot say so, since the device is lost.
  void require(const Op& op);
  void require_stream(uint64_t handle);

 private:
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };

  void require(const c10d_buffer& buffer);
  bool knows(uint64_t begin, uint64_t end) const;
  /// Asks the driver about one address.
  bool finds(uint64_t address);

  const DeviceContext& context_;
  std::array<Range, 16> known_{};
  size_t next_ = 0;
  uint64_t known_stream_ = 0;
};

}  // namespace c10d::nccl_shim
