import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { engineDTypes, movedDTypes } from "../native/engine-dtypes.ts";

const integral: readonly ReduceOpName[] = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"];

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX"],
  integer: integral,
  bool: integral,
  complex: ["SUM", "AVG"],
});

/** What the UCC backend does. */
export const capabilities: Capabilities = {
  ops: {
    allReduce: engineDTypes,
    allReduceCoalesced: engineDTypes,
    broadcast: movedDTypes,
    reduce: engineDTypes,
    allGather: movedDTypes,
    allGatherIntoTensor: movedDTypes,
    allGatherIntoTensorCoalesced: movedDTypes,
    gather: movedDTypes,
    scatter: movedDTypes,
    reduceScatter: engineDTypes,
    reduceScatterTensor: engineDTypes,
    reduceScatterTensorCoalesced: engineDTypes,
    allToAll: movedDTypes,
    allToAllSingle: movedDTypes,
    send: movedDTypes,
    recv: movedDTypes,
    barrier: [],
  },
  reduceOps,
  sequenceNumbers: true,
  abort: true,
  keepsTimeouts: true,
};
