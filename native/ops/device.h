// The device that a group and its tensors are on.
#pragma once

#include <cstdint>
#include <string>

#include "c10d.h"

namespace c10d {

struct Device {
  /// One of c10d_device_type.
  uint32_t type = C10D_DEVICE_CPU;
  int32_t index = 0;
};

/// E.g. "cpu", "cuda:1".
inline std::string text_of(const Device& device) {
  if (device.type == C10D_DEVICE_CPU && device.index == 0) return "cpu";
  std::string type = "type " + std::to_string(device.type);
  if (device.type == C10D_DEVICE_CPU) type = "cpu";
  if (device.type == C10D_DEVICE_CUDA) type = "cuda";
  return type + ":" + std::to_string(device.index);
}

}  // namespace c10d
