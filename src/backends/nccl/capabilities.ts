import { type Capabilities, reduceOpsByKind } from "../../registry/index.ts";
import type { DType } from "../../tensor/index.ts";
import { engineDTypes } from "../native/engine-dtypes.ts";
import { type NcclVersion, versionText } from "./nccl-version.ts";

/** dtypes of 16-bit integers, which NCCL has no type for: they are moved as bytes, as bool is. */
const movedOnly: ReadonlySet<DType> = new Set(["int16", "uint16"]);
const float8: readonly DType[] = ["float8_e4m3fn", "float8_e5m2"];

const reduced = engineDTypes.filter((dtype) => !movedOnly.has(dtype));
const moved: readonly DType[] = [...engineDTypes, ...float8];

const reduceOps = reduceOpsByKind({
  float: ["SUM", "AVG", "PREMUL_SUM", "PRODUCT", "MIN", "MAX"],
  integer: ["SUM", "AVG", "PRODUCT", "MIN", "MAX"],
  bool: ["SUM", "PRODUCT", "MIN", "MAX"],
  complex: ["SUM", "AVG", "PREMUL_SUM"],
});

/** What the NCCL backend does with the newest library. No bitwise reductions, as in NCCL and c10d. */
export const capabilities: Capabilities = {
  ops: {
    allReduce: reduced,
    allReduceCoalesced: reduced,
    broadcast: moved,
    reduce: reduced,
    allGather: moved,
    allGatherIntoTensor: moved,
    allGatherIntoTensorCoalesced: moved,
    gather: moved,
    scatter: moved,
    reduceScatter: reduced,
    reduceScatterTensor: reduced,
    reduceScatterTensorCoalesced: reduced,
    allToAll: moved,
    allToAllSingle: moved,
    send: moved,
    recv: moved,
    barrier: [],
  },
  reduceOps: Object.fromEntries(Object.entries(reduceOps).filter(([dtype]) => !movedOnly.has(dtype as DType))),
  sequenceNumbers: true,
  abort: true,
  keepsTimeouts: true,
  messagesInOrder: true,
};

/** The first versions with types for 8-bit floats, and with what is done with memory besides ops. */
export const FLOAT8_SINCE = 22400;
const since = [
  ["registerMemory", 21900],
  ["openWindow", 22700],
  ...float8.map((dtype) => [dtype, FLOAT8_SINCE] as const),
] as const;

/** What the backend does with a library of this version, as `ncclGetVersion` numbers it. */
export function capabilitiesOf(version: NcclVersion): Capabilities {
  const absent = since.filter(([, first]) => version < first);
  if (absent.length === 0) return capabilities;
  const text = (first: number): string =>
    `it needs NCCL ${versionText(first).replace(/\.0$/, "")}, this is ${versionText(version)}`;
  const missing = Object.fromEntries(absent.map(([name, first]) => [name, text(first)]));
  const ops = Object.entries(capabilities.ops).map(([op, dtypes]) => {
    return [op, dtypes.filter((dtype) => !(dtype in missing))] as const;
  });
  return { ...capabilities, ops: Object.fromEntries(ops), missing };
}
