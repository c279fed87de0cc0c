import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { engineOps, integralReduceOps } from "../native/engine-capabilities.ts";
import { engineDTypes } from "../native/engine-dtypes.ts";

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PREMUL_SUM", "PRODUCT", "MIN", "MAX"],
  integer: integralReduceOps,
  bool: integralReduceOps,
  complex: ["SUM", "AVG", "PREMUL_SUM"],
});

/** What the MPI backend does; more than PyTorch's, which has neither 16-bit floats nor AVG nor reduce-scatter. */
export const capabilities: Capabilities = {
  ops: { ...engineOps, reduceScatterTensorCoalesced: engineDTypes, monitoredBarrier: [] },
  reduceOps,
  anySource: true,
  sequenceNumbers: true,
  abort: true,
  keepsTimeouts: true,
};
