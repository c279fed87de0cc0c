// What an all-to-all sends to each rank and receives from each.
#pragma once

#include <cstdint>

#include "ops/op.h"

namespace c10d {

/// Part of a buffer.
struct Part {
  uint8_t* data = nullptr;
  uint64_t bytes = 0;
};

bool is_all_to_all(const Op& op);

/// For rank `other` in a group of `size`, after check_shape(); empty for any other op.
Part part_to(const Op& op, int other, int size);
Part part_from(const Op& op, int other, int size);

}  // namespace c10d
