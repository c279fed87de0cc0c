// What the program records in streams.
#pragma once

#include <memory>

#include "stream.h"

namespace cuemu {

class Device;

/// The mutex of the world guards it.
struct Event {
  Device& device;
  const bool times;
  /// The latest point at which it was recorded; nullptr before the first.
  PointPtr point;
};
using EventPtr = std::shared_ptr<Event>;

}  // namespace cuemu
