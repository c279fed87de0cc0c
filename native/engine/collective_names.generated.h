// Generated from src/collectives/op-table.ts by scripts/generate-abi.ts. Do not edit.
#pragma once

#include <cstdint>

#include "c10d.h"

namespace c10d {

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
