// The all-reduce of large tensors by messages: rank r reduces part r of the tensor and sends it to all. Open MPI's own
// non-blocking all-reduce takes two to three times as long as its blocking one.
#pragma once

#include <cstdint>

#include "call.h"

namespace c10d::mpi_shim {

/// Whether an all-reduce of this size is done by messages; the same on all ranks.
bool is_direct(const Communicator& communicator, uint64_t bytes);

/// Begins `call.op` on its elements at `data`.
void begin_direct_all_reduce(Call& call, const Communicator& communicator, uint8_t* data, uint64_t bytes);

}  // namespace c10d::mpi_shim
