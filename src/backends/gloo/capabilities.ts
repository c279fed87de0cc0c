import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { sparseDTypes } from "../../tensor/index.ts";
import { engineDTypes, movedDTypes } from "../native/engine-dtypes.ts";

const integral: readonly ReduceOpName[] = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"];

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX"],
  integer: integral,
  bool: integral,
  complex: ["SUM", "AVG"],
});

/** What the Gloo backend does. PyTorch's own Gloo group refuses int16, uint16, uint32, uint64 and 8-bit floats in collectives. */
export const capabilities: Capabilities = {
  ops: {
    allReduce: engineDTypes,
    allReduceCoalesced: engineDTypes,
    allReduceSparse: sparseDTypes,
    broadcast: movedDTypes,
    reduce: engineDTypes,
    allGather: movedDTypes,
    allGatherIntoTensor: movedDTypes,
    allGatherIntoTensorCoalesced: movedDTypes,
    gather: movedDTypes,
    scatter: movedDTypes,
    reduceScatter: engineDTypes,
    reduceScatterTensor: engineDTypes,
    allToAll: movedDTypes,
    allToAllSingle: movedDTypes,
    send: movedDTypes,
    recv: movedDTypes,
    barrier: [],
    monitoredBarrier: [],
  },
  reduceOps,
  anySource: true,
  sequenceNumbers: true,
  abort: true,
  keepsTimeouts: true,
};
