import { dtypeNames, reduceOpsByKind } from "bun-c10d";
import { nativePlugin } from "bun-c10d/native";

const integral = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"] as const;

export default nativePlugin({
  name: "shm-engine",
  sdk: 1,
  module: import.meta.url,
  library: new URL("./shm.so", import.meta.url),
  remedy: "Compile it: bun build.ts",
  capabilities: {
    ops: {
      allReduce: dtypeNames,
      reduce: dtypeNames,
      broadcast: dtypeNames,
      allGather: dtypeNames,
      allGatherIntoTensor: dtypeNames,
      gather: dtypeNames,
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
  },
});
