import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { dtypeNames, sparseDTypes } from "../../tensor/index.ts";

const integral: readonly ReduceOpName[] = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"];

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX"],
  integer: integral,
  bool: integral,
  complex: ["SUM", "AVG"],
});

/** What the Gloo backend does. PyTorch's own Gloo group refuses int16, uint16, uint32 and uint64. */
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
    scatter: dtypeNames,
    reduceScatter: dtypeNames,
    reduceScatterTensor: dtypeNames,
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
