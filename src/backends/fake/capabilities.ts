import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { dtypeNames, sparseDTypes } from "../../tensor/index.ts";

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX", "PREMUL_SUM"],
  integer: ["SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"],
  bool: ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"],
  complex: ["SUM", "AVG", "PRODUCT", "PREMUL_SUM"],
});

const reduced = dtypeNames.filter((dtype) => (reduceOps[dtype] ?? []).length > 0);

/**
 * Every op with every dtype that has a reduction or needs none, and every reduce op that has a meaning for the dtype.
 */
export const capabilities: Capabilities = {
  ops: {
    allReduce: reduced,
    allReduceCoalesced: reduced,
    allReduceSparse: sparseDTypes,
    broadcast: dtypeNames,
    reduce: reduced,
    allGather: dtypeNames,
    allGatherIntoTensor: dtypeNames,
    allGatherIntoTensorCoalesced: dtypeNames,
    gather: dtypeNames,
    gatherSingle: dtypeNames,
    scatter: dtypeNames,
    reduceScatter: reduced,
    reduceScatterTensor: reduced,
    reduceScatterTensorCoalesced: reduced,
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
