import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { dtypeNames, sparseDTypes } from "../../tensor/index.ts";

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX", "PREMUL_SUM"],
  integer: ["SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"],
  bool: ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"],
  complex: ["SUM", "AVG", "PRODUCT", "PREMUL_SUM"],
});

/** Every op with every dtype, and every reduce op that has a meaning for the dtype. */
export const capabilities: Capabilities = {
  ops: {
    allReduce: dtypeNames,
    allReduceCoalesced: dtypeNames,
    allReduceSparse: sparseDTypes,
    broadcast: dtypeNames,
    reduce: dtypeNames,
    allGather: dtypeNames,
    allGatherIntoTensor: dtypeNames,
    allGatherIntoTensorCoalesced: dtypeNames,
    gather: dtypeNames,
    gatherSingle: dtypeNames,
    scatter: dtypeNames,
    reduceScatter: dtypeNames,
    reduceScatterTensor: dtypeNames,
    reduceScatterTensorCoalesced: dtypeNames,
    allToAll: dtypeNames,
    allToAllSingle: dtypeNames,
    send: dtypeNames,
    recv: dtypeNames,
    barrier: [],
    monitoredBarrier: [],
  },
  reduceOps,
  anySource: true,
  sequenceNumbers: true,
  abort: true,
};
