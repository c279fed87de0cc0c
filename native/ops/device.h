// The device that a group and its tensors are on.
#pragma once

#include <cstdint>
#include <string>

#include "c10d.h"
#include "ops/names.generated.h"

namespace c10d {

struct Device {
  /// One of c10d_device_type.
  uint32_t type = C10D_DEVICE_CPU;
  int32_t index = 0;
};

/// E.g. "cpu", "cuda:1".
inline std::string text_of(const Device& device) {
  if (device.type == C10D_DEVICE_CPU && device.index == 0) return "cpu";
  const char* name = device_type_name(device.type);
  const std::string type = name != nullptr ? name : "type " + std::to_string(device.type);
  return type + ":" + std::to_string(device.index);
}

}  // namespace c10d
