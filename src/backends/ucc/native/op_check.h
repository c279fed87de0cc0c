// Checks of an op before any of its data is sent.
#pragma once

#include "ops/op.h"

namespace c10d::ucc_shim {

/// Throws Failure with C10D_ERR_INVALID or C10D_ERR_UNSUPPORTED if UCC cannot carry out the op.
void check_op(const Op& op);

/// Whether the op is a reduction of which each rank gets a part of the result.
bool scatters_reduced(uint32_t opcode);

}  // namespace c10d::ucc_shim
