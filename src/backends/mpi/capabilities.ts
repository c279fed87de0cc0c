import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { engineDTypes, movedDTypes } from "../native/engine-dtypes.ts";

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
    monitoredBarrier: [],
  },
  reduceOps,
  anySource: true,
  sequenceNumbers: true,
  abort: true,
  keepsTimeouts: true,
};
