import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import { sparseDTypes } from "../../tensor/index.ts";
import { engineOps, integralReduceOps } from "../native/engine-capabilities.ts";

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX"],
  integer: integralReduceOps,
  bool: integralReduceOps,
  complex: ["SUM", "AVG"],
});

/**
 * What the Gloo backend does. PyTorch's own Gloo group refuses int16, uint16, uint32, uint64 and 8-bit floats in
 * collectives.
 */
export const capabilities: Capabilities = {
  ops: { ...engineOps, allReduceSparse: sparseDTypes, monitoredBarrier: [] },
  reduceOps,
  anySource: true,
  sequenceNumbers: true,
  abort: true,
  keepsTimeouts: true,
};
