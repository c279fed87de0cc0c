// MPI's names for our dtypes and reduce ops.
#pragma once

#include <mpi.h>

#include <cstdint>

#include "reduction/reduction.h"

namespace c10d::mpi_shim {

/// MPI_DATATYPE_NULL for an unknown dtype. 16-bit floats travel as 16-bit integers.
MPI_Datatype datatype_of(uint32_t dtype);

/// MPI_OP_NULL if the reduction makes no sense for the dtype. AVG and PREMUL_SUM reduce as SUM does. MPI must be up; ops
/// of our own are made when first asked for.
MPI_Op operation_of(uint32_t dtype, uint32_t reduce_op);

/// The same reduction carried out by this process.
Reduction reduction_of(const c10d_op& request);

/// Whether operation_of() has one, without MPI.
bool can_reduce(uint32_t dtype, uint32_t reduce_op);

}  // namespace c10d::mpi_shim
