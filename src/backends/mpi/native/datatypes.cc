#include "datatypes.h"

#include <mutex>

#include "process/runtime.h"
#include "reduction/reduction.h"

namespace c10d::mpi_shim {

namespace {

/// An operation of our own, for 16-bit floats, which MPI does not have, and for integers whose operations are wrong:
/// sums of 8 and 16 bits saturate in Open MPI 4.1, and MPICH 4.0 compares unsigned numbers as signed ones.
template <uint32_t dtype, uint32_t reduce_op>
void reduce_elements(void* in, void* inout, int* count, MPI_Datatype*) {
  find_reduction(dtype, reduce_op)(inout, inout, in, static_cast<size_t>(*count));
}

template <uint32_t dtype, uint32_t reduce_op>
MPI_Op own_operation() {
  static std::once_flag once;
  static MPI_Op made = MPI_OP_NULL;
  std::call_once(once,
                 [] { require_success(MPI_Op_create(&reduce_elements<dtype, reduce_op>, 1, &made), "MPI_Op_create"); });
  return made;
}

template <uint32_t dtype>
MPI_Op own(uint32_t reduce_op) {
  switch (reduce_op) {
    case C10D_BAND:
      return MPI_BAND;
    case C10D_BOR:
      return MPI_BOR;
    case C10D_BXOR:
      return MPI_BXOR;
    case C10D_PRODUCT:
      return own_operation<dtype, C10D_PRODUCT>();
    case C10D_MIN:
      return own_operation<dtype, C10D_MIN>();
    case C10D_MAX:
      return own_operation<dtype, C10D_MAX>();
    default:
      return own_operation<dtype, C10D_SUM>();
  }
}

/// A bool is a byte of 0 or 1: its sum is OR and its product is AND.
MPI_Op on_bool(uint32_t reduce_op) {
  switch (reduce_op) {
    case C10D_SUM:
    case C10D_MAX:
    case C10D_BOR:
      return MPI_LOR;
    case C10D_BXOR:
      return MPI_LXOR;
    default:
      return MPI_LAND;
  }
}

MPI_Op libraries_own(uint32_t reduce_op) {
  switch (reduce_op) {
    case C10D_PRODUCT:
      return MPI_PROD;
    case C10D_MIN:
      return MPI_MIN;
    case C10D_MAX:
      return MPI_MAX;
    case C10D_BAND:
      return MPI_BAND;
    case C10D_BOR:
      return MPI_BOR;
    case C10D_BXOR:
      return MPI_BXOR;
    default:
      return MPI_SUM;
  }
}

}  // namespace

MPI_Datatype datatype_of(uint32_t dtype) {
  switch (dtype) {
    case C10D_UINT8:
    case C10D_FLOAT8_E5M2:
    case C10D_FLOAT8_E4M3FN:
      return MPI_UINT8_T;
    case C10D_INT8:
      return MPI_INT8_T;
    case C10D_INT16:
      return MPI_INT16_T;
    case C10D_INT32:
      return MPI_INT32_T;
    case C10D_INT64:
      return MPI_INT64_T;
    case C10D_FLOAT16:
    case C10D_BFLOAT16:
    case C10D_UINT16:
      return MPI_UINT16_T;
    case C10D_UINT32:
      return MPI_UINT32_T;
    case C10D_UINT64:
      return MPI_UINT64_T;
    case C10D_FLOAT32:
      return MPI_FLOAT;
    case C10D_FLOAT64:
      return MPI_DOUBLE;
    case C10D_COMPLEX64:
      return MPI_C_FLOAT_COMPLEX;
    case C10D_COMPLEX128:
      return MPI_C_DOUBLE_COMPLEX;
    case C10D_BOOL:
      return MPI_C_BOOL;
    default:
      return MPI_DATATYPE_NULL;
  }
}

Reduction reduction_of(const c10d_op& request) {
  const bool sums = request.reduce_op == C10D_PREMUL_SUM || request.reduce_op == C10D_AVG;
  return find_reduction(request.dtype, sums ? uint32_t{C10D_SUM} : request.reduce_op);
}

bool can_reduce(uint32_t dtype, uint32_t reduce_op) {
  if (reduce_op == C10D_PREMUL_SUM) return find_reduction(dtype, C10D_AVG) != nullptr;
  return find_reduction(dtype, reduce_op) != nullptr;
}

MPI_Op operation_of(uint32_t dtype, uint32_t reduce_op) {
  if (!can_reduce(dtype, reduce_op)) return MPI_OP_NULL;
  switch (dtype) {
    case C10D_FLOAT16:
      return own<C10D_FLOAT16>(reduce_op);
    case C10D_BFLOAT16:
      return own<C10D_BFLOAT16>(reduce_op);
    case C10D_INT8:
      return own<C10D_INT8>(reduce_op);
    case C10D_UINT8:
      return own<C10D_UINT8>(reduce_op);
    case C10D_INT16:
      return own<C10D_INT16>(reduce_op);
    case C10D_UINT16:
      return own<C10D_UINT16>(reduce_op);
    case C10D_UINT32:
      return own<C10D_UINT32>(reduce_op);
    case C10D_UINT64:
      return own<C10D_UINT64>(reduce_op);
    case C10D_BOOL:
      return on_bool(reduce_op);
    default:
      return libraries_own(reduce_op);
  }
}

}  // namespace c10d::mpi_shim
