// MPI's datatypes and operations for our dtypes and reduce ops.
#pragma once

#include <mpi.h>

#include <cstdint>

#include "reduction/reduction.h"

namespace c10d::mpi_shim {

/// MPI_DATATYPE_NULL for an unknown dtype. 16-bit floats are sent as 16-bit integers.
MPI_Datatype datatype_of(uint32_t dtype);

/// MPI_OP_NULL if the reduction is not defined for the dtype. AVG and PREMUL_SUM reduce like SUM. MPI must have
/// started; operations of our own are created at their first use.
MPI_Op operation_of(uint32_t dtype, uint32_t reduce_op);

/// The same reduction as a function of this process.
Reduction reduction_of(const c10d_op& request);

/// Whether operation_of() would return an operation, without calling MPI.
bool can_reduce(uint32_t dtype, uint32_t reduce_op);

}  // namespace c10d::mpi_shim
