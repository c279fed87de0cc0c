// The all-reduce of large tensors by messages, since Open MPI's own non-blocking one takes two to three times as long as its
// blocking one: rank r reduces part r of the tensor and sends it to all.
#pragma once

#include <cstdint>

#include "call.h"

namespace c10d::mpi_shim {

/// Whether the all-reduce of so many bytes is one of these; the same on all ranks.
bool is_direct(const Communicator& communicator, uint64_t bytes);

/// Begins `call.op` on its elements at `data`.
void begin_direct_all_reduce(Call& call, const Communicator& communicator, uint8_t* data, uint64_t bytes);

}  // namespace c10d::mpi_shim
