import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { sparseDTypes } from "../../tensor/index.ts";
import { engineDTypes } from "../engine-dtypes.ts";

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
    allReduce: engineDTypes,
    allReduceCoalesced: engineDTypes,
    allReduceSparse: sparseDTypes,
    broadcast: engineDTypes,
    reduce: engineDTypes,
    allGather: engineDTypes,
    allGatherIntoTensor: engineDTypes,
    allGatherIntoTensorCoalesced: engineDTypes,
    gather: engineDTypes,
    scatter: engineDTypes,
    reduceScatter: engineDTypes,
    reduceScatterTensor: engineDTypes,
    allToAll: engineDTypes,
    allToAllSingle: engineDTypes,
    send: engineDTypes,
    recv: engineDTypes,
    barrier: [],
    monitoredBarrier: [],
  },
  reduceOps,
  anySource: true,
  sequenceNumbers: true,
  abort: true,
};
