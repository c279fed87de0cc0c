import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import type { Capabilities } from "../../registry/index.ts";
import { engineDTypes, movedDTypes } from "./engine-dtypes.ts";

/** The ops that all built-in backends with a shim have, with the dtypes of each. */
export const engineOps: Capabilities["ops"] = {
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
  allToAll: movedDTypes,
  allToAllSingle: movedDTypes,
  send: movedDTypes,
  recv: movedDTypes,
  barrier: [],
};

/** The reduce ops that native/reduction has for integers and bool. */
export const integralReduceOps: readonly ReduceOpName[] = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"];
