import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { engineOps, integralReduceOps } from "../native/engine-capabilities.ts";
import { engineDTypes } from "../native/engine-dtypes.ts";

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX"],
  integer: integralReduceOps,
  bool: integralReduceOps,
  complex: ["SUM", "AVG"],
});

/** What the UCC backend does. */
export const capabilities: Capabilities = {
  ops: { ...engineOps, reduceScatterTensorCoalesced: engineDTypes },
  reduceOps,
  sequenceNumbers: true,
  abort: true,
  keepsTimeouts: true,
};
