// Registered memory and windows of a communicator.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "communicator.h"
#include "ops/op.h"

namespace c10d::nccl_shim {

class Services {
 public:
  explicit Services(Communicator& communicator) : communicator_(communicator) {}

  /// On the native thread. The communicator may be in progress afterwards. Throws Failure.
  void serve(const Op& op);
  /// Whether all ops before it have to end first.
  static bool needs_quiet(uint32_t opcode) {
    return opcode == C10D_SERVICE_DEREGISTER_MEMORY || opcode == C10D_SERVICE_CLOSE_WINDOW;
  }
  /// From any thread.
  bool has_window(uint64_t address) const;

 private:
  Communicator& communicator_;
  std::map<uint64_t, void*> registered_;
  mutable std::mutex mutex_;
  /// NCCL writes the handle of a new one later, so it must stay in its place.
  std::map<uint64_t, NcclWindow> windows_;
};

}  // namespace c10d::nccl_shim
