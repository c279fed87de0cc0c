import { dtypeNames } from "bun-c10d";
import { nativePlugin } from "bun-c10d/native";

const numbers = ["float32", "float64", "int32", "int64"] as const;
const reductions = ["SUM", "PRODUCT", "MIN", "MAX"] as const;

export default nativePlugin({
  name: "shm",
  sdk: 2,
  module: import.meta.url,
  library: new URL("./shm.so", import.meta.url),
  remedy: "Compile it: bun build.ts",
  capabilities: {
    ops: {
      allReduce: numbers,
      reduce: numbers,
      broadcast: dtypeNames,
      allGather: dtypeNames,
      allGatherIntoTensor: dtypeNames,
      gather: dtypeNames,
      barrier: [],
    },
    reduceOps: { float32: reductions, float64: reductions, int32: reductions, int64: reductions },
    sequenceNumbers: true,
    abort: true,
    keepsTimeouts: true,
  },
});
