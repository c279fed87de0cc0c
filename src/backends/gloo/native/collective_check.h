// The collectives that gloo implements.
#pragma once

#include <cstdint>

#include "ops/op.h"
#include "ops/op_shape.h"

namespace c10d::gloo_shim {

/// Throws Failure with C10D_ERR_UNSUPPORTED if gloo does not implement the collective.
void check_collective(const Op& op);

/// Number of tags that the op uses: one, except for a reduce-scatter of a list, which is an all-reduce per entry, and
/// for a monitored barrier, which has reports and answers.
uint32_t tags_of(const Op& op);

}  // namespace c10d::gloo_shim
