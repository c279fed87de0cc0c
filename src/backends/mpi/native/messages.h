// Point-to-point ops, and the monitored barrier, which is made of them.
#pragma once

#include "call.h"
#include "engine/failure.h"

namespace c10d::mpi_shim {

/// Throws Failure if the op is no message that this rank can send or receive.
void check_message(const Op& op, int rank, int world_size, int first_own_tag);

void begin_message(Call& call, const Communicator& communicator);

/// Takes over the source of a message that has been received. Throws Failure if its size is not the expected one.
void end_message(Op& op, const MPI_Status& status);

/// Text for a message that does not fit its buffer.
Failure too_long(const Op& op, int source);

/// Gives rank 0 the time to name the missing ranks, which the engine could not.
void give_grace(Op& op);

void begin_monitored_barrier(Call& call, const Communicator& communicator);

/// Throws Failure naming the ranks that have not come, when the time of a monitored barrier is over.
void watch_monitored_barrier(const Call& call, const Communicator& communicator);

}  // namespace c10d::mpi_shim
