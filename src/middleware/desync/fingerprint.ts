import { type OpCall, type OpName, OpType, opTable, sparseOf } from "../../collectives/index.ts";
import { type DType, deviceTypeCodes, dtypes, shapeOfView, type TensorView } from "../../tensor/index.ts";

/** A tensor as ranks compare it. */
export interface FingerprintTensor {
  /** c10's number of the dtype. */
  readonly dtype: number;
  /** c10's number of the device type. */
  readonly device: number;
  readonly shape: readonly number[];
}

/** What must be the same on all ranks in a collective. c10d: `CollectiveFingerPrint`. */
export interface Fingerprint {
  readonly opType: number;
  /** Number of the ops of the group before this one. */
  readonly sequence: number;
  /** Empty if the tensors of the op may differ between ranks. */
  readonly tensors: readonly FingerprintTensor[];
}

/** How many numbers a fingerprint without tensors has. */
export const NO_TENSORS_LENGTH = 3;

/** More than any call has: what a peer announces is not allocated beyond this. */
export const MAX_WORDS = 1 << 20;

/** PyTorch sends these with a last dimension of two, as floats. */
const sentAsReal: ReadonlySet<OpType> = new Set([
  OpType.ALLREDUCE,
  OpType.BROADCAST,
  OpType.ALLGATHER,
  OpType.ALLGATHER_BASE,
  OpType.SCATTER,
]);

/** The fingerprint of a call; the same as PyTorch's for the same op. */
export function fingerprintOf(call: OpCall, sequence: number): Fingerprint {
  const { opType } = opTable[call.op];
  // PyTorch has no op of its own for it.
  if (opType === OpType.ALLREDUCE_SPARSE) {
    return { opType: OpType.ALLREDUCE, sequence, tensors: sparseTensorsOf(call) };
  }
  const isReal = sentAsReal.has(opType);
  const tensors = comparedOf(call).map((view) => describeView(view, isReal));
  return { opType, sequence, tensors };
}

/** Tensors that PyTorch compares; of the ops with lists of one tensor per rank only if those of the list have one shape. */
type Compared = "none" | "inputs" | "outputs" | "both" | "inputsOfEven" | "outputsOfEven";

const compared: { readonly [op in OpName]: Compared } = {
  allReduce: "outputs",
  allReduceCoalesced: "none",
  allReduceSparse: "none",
  broadcast: "outputs",
  reduce: "outputs",
  allGather: "inputsOfEven",
  allGatherIntoTensor: "inputs",
  allGatherIntoTensorCoalesced: "none",
  gather: "inputs",
  gatherSingle: "inputs",
  scatter: "outputs",
  reduceScatter: "outputsOfEven",
  reduceScatterTensor: "both",
  reduceScatterTensorCoalesced: "none",
  allToAll: "none",
  allToAllSingle: "none",
  send: "none",
  recv: "none",
  barrier: "none",
  monitoredBarrier: "none",
  refused: "none",
};

function comparedOf({ op, inputs, outputs }: OpCall): readonly TensorView[] {
  switch (compared[op]) {
    case "none":
      return [];
    case "inputs":
      return inputs;
    case "outputs":
      return outputs;
    case "both":
      return [...inputs, ...outputs];
    case "inputsOfEven":
      return haveOneShape(outputs) ? inputs : [];
    case "outputsOfEven":
      return haveOneShape(inputs) ? outputs : [];
  }
}

function haveOneShape(views: readonly TensorView[]): boolean {
  const [first, ...others] = views.map((view) => shapeOfView(view).join());
  return others.every((each) => each === first);
}

function describeView(view: TensorView, isReal: boolean): FingerprintTensor {
  const shape = shapeOfView(view);
  const { dtype, device } = view;
  const real = isReal ? realOf(dtype) : undefined;
  const code = deviceTypeCodes[device.type];
  if (real !== undefined) return { dtype: dtypes[real].code, device: code, shape: [...shape, 2] };
  return { dtype: dtypes[dtype].code, device: code, shape };
}

function realOf(dtype: DType): DType | undefined {
  if (dtype === "complex64") return "float32";
  return dtype === "complex128" ? "float64" : undefined;
}

/** A sparse tensor is compared by its shape; the call has only what describes it. */
function sparseTensorsOf({ inputs, device }: OpCall): FingerprintTensor[] {
  const header = inputs[0]?.data;
  const sparse = header === undefined ? undefined : sparseOf(header);
  if (sparse === undefined) return [];
  return [{ dtype: dtypes[sparse.dtype].code, device: deviceTypeCodes[device.type], shape: sparse.shape }];
}

/** Fingerprints as the numbers that ranks exchange, one after the other. */
export function encoded(fingerprints: readonly Fingerprint[]): BigInt64Array {
  const words = fingerprints.flatMap(({ opType, sequence, tensors }) => [
    opType,
    sequence,
    tensors.length,
    ...tensors.map(({ dtype }) => dtype),
    ...tensors.map(({ device }) => device),
    ...tensors.flatMap(({ shape }) => [shape.length, ...shape]),
  ]);
  return BigInt64Array.from(words, BigInt);
}

/** The fingerprints that a rank sent; `undefined` if these are none. */
export function decoded(words: BigInt64Array): readonly Fingerprint[] | undefined {
  const numbers = Array.from(words, Number);
  const fingerprints: Fingerprint[] = [];
  let at = 0;
  const take = (count: number): number[] | undefined => {
    if (!Number.isSafeInteger(count) || count < 0 || count > numbers.length - at) return undefined;
    at += count;
    return numbers.slice(at - count, at);
  };
  while (at < numbers.length) {
    const [opType, sequence, count = -1] = take(3) ?? [];
    const [types, devices] = [take(count), take(count)];
    if (opType === undefined || sequence === undefined || types === undefined || devices === undefined)
      return undefined;
    const tensors: FingerprintTensor[] = [];
    for (const [i, dtype] of types.entries()) {
      const [dimensions = -1] = take(1) ?? [];
      const shape = take(dimensions);
      if (shape === undefined) return undefined;
      tensors.push({ dtype, device: devices[i] ?? 0, shape });
    }
    fingerprints.push({ opType, sequence, tensors });
  }
  return fingerprints;
}
