// Checks of an op before any of its data is sent.
#pragma once

#include "ops/op.h"

namespace c10d::mpi_shim {

/// Throws Failure with C10D_ERR_INVALID or C10D_ERR_UNSUPPORTED if the op cannot be a collective of this group.
void check_collective(const Op& op, int world_size);

/// Throws Failure with C10D_ERR_INVALID if this rank cannot send or receive the message.
void check_message(const Op& op, int first_own_tag);

}  // namespace c10d::mpi_shim
