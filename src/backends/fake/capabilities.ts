import type { ReduceOpName } from "../../collectives/reduce-op.ts";
import type { Capabilities } from "../../registry/index.ts";
import { type DType, dtypeNames } from "../../tensor/index.ts";

const floating: readonly ReduceOpName[] = ["SUM", "AVG", "PRODUCT", "MIN", "MAX", "PREMUL_SUM"];
const integral: readonly ReduceOpName[] = ["SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"];
const logical: readonly ReduceOpName[] = ["SUM", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"];
const complex: readonly ReduceOpName[] = ["SUM", "AVG", "PRODUCT", "PREMUL_SUM"];

const reduceOps = {
  float32: floating,
  float64: floating,
  float16: floating,
  bfloat16: floating,
  int8: integral,
  uint8: integral,
  int16: integral,
  uint16: integral,
  int32: integral,
  uint32: integral,
  int64: integral,
  uint64: integral,
  bool: logical,
  complex64: complex,
  complex128: complex,
} satisfies { readonly [dtype in DType]: readonly ReduceOpName[] };

/** Every op with every dtype, and every reduce op that has a meaning for the dtype. */
export const capabilities: Capabilities = {
  ops: {
    allReduce: dtypeNames,
    allReduceCoalesced: dtypeNames,
    broadcast: dtypeNames,
    reduce: dtypeNames,
    allGather: dtypeNames,
    allGatherIntoTensor: dtypeNames,
    gather: dtypeNames,
    scatter: dtypeNames,
    reduceScatter: dtypeNames,
    reduceScatterTensor: dtypeNames,
    allToAll: dtypeNames,
    allToAllSingle: dtypeNames,
    send: dtypeNames,
    recv: dtypeNames,
    barrier: [],
    monitoredBarrier: [],
  },
  reduceOps,
  anySource: true,
  sequenceNumbers: true,
  abort: true,
};
