// Generated from the op table, the reduce ops and the device types of src by scripts/generate-abi.ts. Do not edit.
#pragma once

#include <cstdint>

#include "c10d.h"

namespace c10d {

/// The last of c10d_opcode.
constexpr uint32_t kHighestOpcode = C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED;

/// Name of a device type; nullptr for any other number.
constexpr const char* device_type_name(uint32_t type) {
  switch (type) {
    case C10D_DEVICE_CPU:
      return "cpu";
    case C10D_DEVICE_CUDA:
      return "cuda";
    default:
      return nullptr;
  }
}

/// Name of a reduce op; nullptr for any other number.
constexpr const char* reduce_op_name(uint32_t reduce_op) {
  switch (reduce_op) {
    case C10D_SUM:
      return "SUM";
    case C10D_AVG:
      return "AVG";
    case C10D_PRODUCT:
      return "PRODUCT";
    case C10D_MIN:
      return "MIN";
    case C10D_MAX:
      return "MAX";
    case C10D_BAND:
      return "BAND";
    case C10D_BOR:
      return "BOR";
    case C10D_BXOR:
      return "BXOR";
    case C10D_PREMUL_SUM:
      return "PREMUL_SUM";
    default:
      return nullptr;
  }
}

/// Name of a collective in the op table.
inline const char* collective_name(uint32_t opcode, uint32_t flags) {
  switch (opcode) {
    case C10D_OP_ALLREDUCE:
      return "allReduce";
    case C10D_OP_ALLREDUCE_COALESCED:
      return "allReduceCoalesced";
    case C10D_OP_ALLREDUCE_SPARSE:
      return "allReduceSparse";
    case C10D_OP_BROADCAST:
      return "broadcast";
    case C10D_OP_REDUCE:
      return "reduce";
    case C10D_OP_ALLGATHER:
      return "allGather";
    case C10D_OP_ALLGATHER_BASE:
      return "allGatherIntoTensor";
    case C10D_OP_ALLGATHER_COALESCED:
      return "allGatherIntoTensorCoalesced";
    case C10D_OP_GATHER:
      return "gather";
    case C10D_OP_SCATTER:
      return "scatter";
    case C10D_OP_REDUCE_SCATTER:
      return "reduceScatter";
    case C10D_OP_REDUCE_SCATTER_BASE:
      return "reduceScatterTensor";
    case C10D_OP_REDUCE_SCATTER_TENSOR_COALESCED:
      return "reduceScatterTensorCoalesced";
    case C10D_OP_ALLTOALL:
      return "allToAll";
    case C10D_OP_ALLTOALL_BASE:
      return "allToAllSingle";
    case C10D_OP_BARRIER:
      return (flags & C10D_FLAG_MONITORED) != 0 ? "monitoredBarrier" : "barrier";
    default:
      return "an unknown collective";
  }
}

}  // namespace c10d
