// ncclConfig_t from the options of a group.
#pragma once

#include <string>

#include "engine/transport.h"
#include "mutation.h"
#include "nccl_api.h"

namespace c10d::nccl_shim {

/// Its texts belong to this object, which must outlive the communicator.
class CommunicatorConfig {
 public:
  /// For a library of this version. Throws Failure with C10D_ERR_INVALID naming an option that is no number, or that
  /// needs a newer version.
  CommunicatorConfig(const Options& options, int version, const Mutation& mutation);
  CommunicatorConfig(const CommunicatorConfig&) = delete;
  CommunicatorConfig& operator=(const CommunicatorConfig&) = delete;

  NcclConfig* get() { return &config_; }
  bool blocking() const { return config_.blocking == 1; }

 private:
  NcclConfig config_{};
  std::string net_name_;
  std::string comm_name_;
};

/// The number in an option; `fallback` if it is absent. Throws Failure.
int integer_option(const Options& options, const std::string& key, int fallback);

}  // namespace c10d::nccl_shim
