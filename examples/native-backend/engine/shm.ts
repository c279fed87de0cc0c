import { reduceOpsByKind } from "bun-c10d";
import { engineDTypes, nativePlugin } from "bun-c10d/native";

const integral = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"] as const;

export default nativePlugin({
  name: "shm-engine",
  sdk: 2,
  module: import.meta.url,
  library: new URL("./shm.so", import.meta.url),
  remedy: "Compile it: bun build.ts",
  capabilities: {
    ops: {
      allReduce: engineDTypes,
      reduce: engineDTypes,
      broadcast: engineDTypes,
      allGather: engineDTypes,
      allGatherIntoTensor: engineDTypes,
      gather: engineDTypes,
      barrier: [],
    },
    reduceOps: reduceOpsByKind({
      float: ["SUM", "AVG", "PRODUCT", "MIN", "MAX"],
      integer: integral,
      bool: integral,
      complex: ["SUM", "AVG"],
    }),
    sequenceNumbers: true,
    abort: true,
    keepsTimeouts: true,
  },
});
