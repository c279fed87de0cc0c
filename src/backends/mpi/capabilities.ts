import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { dtypeNames } from "../../tensor/index.ts";

const integral: readonly ReduceOpName[] = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"];

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PREMUL_SUM", "PRODUCT", "MIN", "MAX"],
  integer: integral,
  bool: integral,
  complex: ["SUM", "AVG", "PREMUL_SUM"],
});

/** What the MPI backend does; more than PyTorch's, which has neither 16-bit floats nor AVG nor reduce-scatter. */
export const capabilities: Capabilities = {
  ops: {
    allReduce: dtypeNames,
    allReduceCoalesced: dtypeNames,
    broadcast: dtypeNames,
    reduce: dtypeNames,
    allGather: dtypeNames,
    allGatherIntoTensor: dtypeNames,
    allGatherIntoTensorCoalesced: dtypeNames,
    gather: dtypeNames,
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
