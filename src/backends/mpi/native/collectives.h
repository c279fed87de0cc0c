// MPI's non-blocking collectives, one per op of the shim ABI.
#pragma once

#include "call.h"

namespace c10d::mpi_shim {

/// Throws Failure with C10D_ERR_INVALID or C10D_ERR_UNSUPPORTED if the op cannot be a collective of this group.
void check_collective(const Op& op, int world_size);

/// Begins `call.op`: adds its requests, and what is to be done after them.
void begin_collective(Call& call, const Communicator& communicator);

}  // namespace c10d::mpi_shim
