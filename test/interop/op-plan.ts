import { type DType, type Tensor, tensor } from "../../src/tensor/index.ts";

export type StepKind =
  | "allReduce"
  | "allReduceList"
  | "reduce"
  | "broadcast"
  | "allGather"
  | "allGatherIntoTensor"
  | "gather"
  | "scatter"
  | "reduceScatter"
  | "reduceScatterTensor"
  | "allToAll"
  | "allToAllSingle"
  | "allToAllEqual"
  | "sendRecv"
  | "recvAny"
  | "ring"
  | "interleaved"
  | "allGatherList"
  | "reduceScatterList"
  | "coalesced"
  | "sparse"
  | "barrier"
  | "monitoredBarrier";

/** One step that all ranks of a group run; the input of each follows from its rank: see {@link valuesOf}. */
export interface Step {
  readonly kind: StepKind;
  readonly dtype: DType;
  readonly length: number;
  readonly op: "SUM" | "AVG" | "PRODUCT" | "MIN" | "MAX" | "BAND" | "BOR" | "BXOR";
  /** Rank in the group: the root, or the receiver. */
  readonly root: number;
}

/** What every rank of a job does, `repeats` times: all steps in the default group, some in sub-groups. */
export interface OpPlan {
  readonly repeats: number;
  readonly steps: readonly Step[];
  readonly groups: readonly (readonly number[])[];
  readonly groupSteps: readonly Step[];
}

const floats: readonly DType[] = ["float32", "float64", "float16", "bfloat16"];
const integers: readonly DType[] = ["int8", "uint8", "int32", "int64"];
const complexes: readonly DType[] = ["complex64", "complex128"];
const copied: readonly DType[] = [...floats, ...integers, "bool"];
/** PyTorch's Gloo supports these only in messages. */
const eightBitFloats: readonly DType[] = ["float8_e4m3fn", "float8_e5m2"];
const lengths = [7, 1, 0, 1000];

export function planFor(size: number, repeats: number): OpPlan {
  const everybody = Array.from({ length: size }, (_, rank) => rank);
  return {
    repeats,
    steps: stepsFor(size),
    groups: [everybody.slice(1), [size - 1, 0]].filter(({ length }) => length > 0),
    groupSteps: stepsFor(2).filter((_, i) => i % 5 === 0),
  };
}

/** Steps for a group of at least `size` ranks; every kind with many dtypes, lengths and roots. */
function stepsFor(size: number): Step[] {
  let count = 0;
  const step = (kind: StepKind, dtype: DType, changes: Partial<Step> = {}): Step => {
    const i = count++;
    return { kind, dtype, length: lengths[i % lengths.length] ?? 1, op: "SUM", root: i % size, ...changes };
  };
  const each = (kind: StepKind, dtypes: readonly DType[], changes: Partial<Step> = {}) =>
    dtypes.map((dtype) => step(kind, dtype, changes));
  const roots = Array.from({ length: size }, (_, root) => root);
  return [
    ...each("allReduce", floats, { op: "AVG" }),
    ...each("allReduceList", ["float32", "int64", "bfloat16"]),
    step("monitoredBarrier", "int32", { root: 0 }),
    ...roots.flatMap((root) => each("reduce", floats, { root, op: "MAX" })),
    ...each("reduce", integers, { op: "BXOR" }),
    ...each("broadcast", ["bool", ...complexes]),
    // Odd lengths: a rank's chunk may then end in the middle of a number.
    ...(["allReduce", "reduce", "reduceScatter", "reduceScatterTensor", "allReduceList"] as const).flatMap((kind) =>
      each(kind, complexes, { length: 5 }),
    ),
    ...each("allReduce", complexes, { length: 5, op: "AVG" }),
    ...(["allGather", "allGatherIntoTensor", "scatter", "allToAll", "allToAllSingle", "sendRecv"] as const).flatMap(
      (kind) => each(kind, complexes),
    ),
    ...each("allReduce", ["bool"], { op: "MAX" }),
    ...each("allReduce", ["bool"], { op: "BXOR" }),
    ...each("allGather", copied),
    step("allGather", "float32", { length: 0 }),
    ...each("allGatherIntoTensor", copied),
    step("allGatherIntoTensor", "int64", { length: 0 }),
    ...roots.flatMap((root) => [step("gather", "float32", { root }), step("scatter", "int64", { root })]),
    ...each("gather", copied),
    ...each("scatter", copied),
    step("gather", "uint8", { length: 0 }),
    step("scatter", "float64", { length: 0 }),
    ...each("reduceScatter", floats),
    ...each("reduceScatter", integers, { op: "MIN" }),
    ...each("reduceScatterTensor", floats, { op: "MAX" }),
    ...each("reduceScatterTensor", integers),
    step("reduceScatterTensor", "float32", { length: 0 }),
    ...each("allToAll", copied),
    ...each("allToAllSingle", copied),
    ...each("allToAllEqual", copied),
    step("allToAllEqual", "float32", { length: 0 }),
    ...each("sendRecv", [...copied, ...eightBitFloats]),
    step("sendRecv", "float32", { length: 300_000 }),
    step("sendRecv", "float32", { length: 0 }),
    ...roots.map((root) => step("recvAny", "int64", { root, length: 3 })),
    ...each("ring", ["float32", "float64"], { length: 5_000 }),
    step("barrier", "int32"),
    ...each("interleaved", ["float32", "int64"], { length: 3_000 }),
    step("monitoredBarrier", "int32", { root: 1 }),
    ...each("allGatherList", copied),
    step("allGatherList", "float32", { length: 0 }),
    ...each("reduceScatterList", ["float32", "int64"]),
    ...each("coalesced", ["float32", "int32"]),
    // `length` is the number of values at an index.
    ...each("sparse", ["float32", "float64", "int32", "int64"], { length: 1 }),
    ...each("sparse", ["float32", "int8"], { length: 3 }),
    // Succeeds only if tags are counted the same way on both sides.
    step("allReduce", "int32"),
  ];
}

/** Elements that rank `from` has for rank `to` in an uneven exchange; none between some of them. */
export const share = (from: number, to: number, length: number): number =>
  (from + to) % 3 === 2 ? 0 : length + 2 * from + to;

/** Rows and columns that a rank lists in a sparse tensor of 6 rows and 2 columns; one of them lists nothing. */
export function placesOf(rank: number): { rows: number[]; columns: number[] } {
  const rows = Array.from({ length: rank === 1 ? 0 : 2 + rank }, (_, i) => (3 * i + rank) % 6);
  return { rows, columns: rows.map((row, i) => (row + i) % 2) };
}

/** What rank `from` has for part `part`: small numbers, so that every dtype holds every result exactly. */
export function valuesOf(dtype: DType, from: number, part: number, length: number): Tensor {
  const at = (i: number) => ((from * 3 + part * 5 + i) % 4) + 1;
  if (dtype === "int64")
    return tensor(
      BigInt64Array.from({ length }, (_, i) => BigInt(at(i))),
      { dtype },
    );
  if (dtype === "bool")
    return tensor(
      Uint8Array.from({ length }, (_, i) => at(i) % 2),
      { dtype },
    );
  const perElement = complexes.includes(dtype) ? 2 : 1;
  const values = Array.from({ length: length * perElement }, (_, i) => at(i));
  return tensor(values, { dtype });
}

export function emptyOf(dtype: DType, length: number): Tensor {
  return tensor(new Uint8Array(valuesOf(dtype, 0, 0, length).data.byteLength), { dtype });
}

export function joined(dtype: DType, parts: readonly Tensor[]): Tensor {
  return tensor(Uint8Array.from(Buffer.concat(parts.map(bytesOf))), { dtype });
}

/** A short hash of the bytes of some tensors. */
export function digest(tensors: readonly Tensor[]): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const each of tensors) hasher.update(bytesOf(each));
  return hasher.digest("hex").slice(0, 12);
}

function bytesOf({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
