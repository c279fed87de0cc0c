import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { engineDTypes } from "../engine-dtypes.ts";

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
    broadcast: engineDTypes,
    reduce: engineDTypes,
    allGather: engineDTypes,
    allGatherIntoTensor: engineDTypes,
    allGatherIntoTensorCoalesced: engineDTypes,
    gather: engineDTypes,
    scatter: engineDTypes,
    reduceScatter: engineDTypes,
    reduceScatterTensor: engineDTypes,
    reduceScatterTensorCoalesced: engineDTypes,
    allToAll: engineDTypes,
    allToAllSingle: engineDTypes,
    send: engineDTypes,
    recv: engineDTypes,
    barrier: [],
  },
  reduceOps,
  sequenceNumbers: true,
  abort: true,
};
