// MPI's non-blocking collectives, one per op of the shim ABI.
#pragma once

#include "call.h"

namespace c10d::mpi_shim {

/// Begins `call.op`: adds its requests and the steps after them.
void begin_collective(Call& call, const Communicator& communicator);

}  // namespace c10d::mpi_shim
