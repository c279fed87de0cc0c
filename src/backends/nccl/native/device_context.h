// The primary context of a device, which all libraries of a process share.
#pragma once

#include <string>

#include "library.h"

namespace c10d::nccl_shim {

/// Holds the context until the end. It is current only where a ContextScope makes it so.
class DeviceContext {
 public:
  /// Throws Failure.
  explicit DeviceContext(int ordinal);
  ~DeviceContext();
  DeviceContext(const DeviceContext&) = delete;
  DeviceContext& operator=(const DeviceContext&) = delete;

  CuContext get() const { return context_; }
  int ordinal() const { return ordinal_; }

  /// A stream that does not wait for the default one. Throws Failure.
  CuStream make_stream(bool high_priority) const;

 private:
  const int ordinal_;
  CuDevice device_ = 0;
  CuContext context_ = nullptr;
};

/// Makes a context current on this thread, and the one from before again at the end.
class ContextScope {
 public:
  explicit ContextScope(const DeviceContext& context) : cuda_(load_library().cuda) {
    cuda_.ctx_get_current(&before_);
    changed_ = before_ != context.get();
    if (changed_) cuda_.ctx_set_current(context.get());
  }
  ~ContextScope() {
    if (changed_) cuda_.ctx_set_current(before_);
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  const CudaApi& cuda_;
  CuContext before_ = nullptr;
  bool changed_ = false;
};

}  // namespace c10d::nccl_shim
