// The collectives that gloo has.
#pragma once

#include <cstdint>

#include "ops/op.h"
#include "ops/op_shape.h"

namespace c10d::gloo_shim {

/// Throws Failure with C10D_ERR_UNSUPPORTED if gloo has no such collective.
void check_collective(const Op& op);

/// Tags that the op takes: one, but for a reduce-scatter of a list, which is an all-reduce per entry, and a monitored
/// barrier, which has a way there and a way back.
uint32_t tags_of(const Op& op);

}  // namespace c10d::gloo_shim
