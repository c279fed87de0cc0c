import { describe, expect, test } from "bun:test";
import { type OpName, opCall, ReduceOp, sparseHeaderOf } from "../../collectives/index.ts";
import { CPU, sparseTensor, type TensorLike, tensor, viewTensor } from "../../tensor/index.ts";
import { decoded, encoded, type Fingerprint, fingerprintOf } from "./fingerprint.ts";
import { differenceOf, textOf } from "./fingerprint-text.ts";

const floats = (...shape: number[]) =>
  tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), { dtype: "float32", shape });

function wordsOf(op: OpName, inputs: readonly TensorLike[], outputs: readonly TensorLike[]): number[] {
  const views = (list: readonly TensorLike[]) => list.map((each) => viewTensor(each));
  const call = opCall(op, CPU, views(inputs), views(outputs), 1_000, { reduceOp: ReduceOp.SUM });
  return Array.from(encoded([fingerprintOf(call, 7)]), Number);
}

// What PyTorch 2.13 sends: op, number, number of tensors, dtypes, devices, and of each tensor its dimensions and sizes.
describe("fingerprintOf", () => {
  const one = floats(3, 4);
  const two = [floats(3, 4), floats(3, 4)];
  const uneven = [floats(3), floats(4)];
  const described = [1, 6, 0, 2, 3, 4];
  test.each<[OpName, TensorLike[], TensorLike[], number[]]>([
    ["allReduce", [], [one], [1, 7, ...described]],
    ["allReduce", [], [new Int32Array(5)], [1, 7, 1, 3, 0, 1, 5]],
    ["allReduce", [], [tensor([1], { dtype: "float64", shape: [] })], [1, 7, 1, 7, 0, 0]],
    ["allReduceCoalesced", [], two, [2, 7, 0]],
    ["broadcast", [], [one], [0, 7, ...described]],
    ["reduce", [], [one], [3, 7, ...described]],
    ["allGather", [one], two, [4, 7, ...described]],
    ["allGather", [floats(3)], uneven, [4, 7, 0]],
    ["allGatherIntoTensor", [one], [floats(6, 4)], [5, 7, ...described]],
    ["gather", [one], [], [7, 7, ...described]],
    ["scatter", two, [one], [8, 7, ...described]],
    ["reduceScatter", two, [one], [9, 7, ...described]],
    ["reduceScatter", uneven, [floats(3)], [9, 7, 0]],
    ["reduceScatterTensor", [floats(6)], [floats(3)], [16, 7, 2, 6, 6, 0, 0, 1, 6, 1, 3]],
    ["reduceScatterTensorCoalesced", two, two, [19, 7, 0]],
    ["allToAll", two, two, [11, 7, 0]],
    ["allToAllSingle", [one], [one], [10, 7, 0]],
    ["barrier", [], [], [15, 7, 0]],
  ])("%s", (op, inputs, outputs, words) => {
    expect(wordsOf(op, inputs, outputs)).toEqual(words);
  });

  test("complex numbers are pairs where PyTorch sends them as pairs", () => {
    const complex = tensor(new Float32Array(6), { dtype: "complex64" });
    expect(wordsOf("allReduce", [], [complex])).toEqual([1, 7, 1, 6, 0, 2, 3, 2]);
    expect(wordsOf("reduce", [], [complex])).toEqual([3, 7, 1, 9, 0, 1, 3]);
  });

  test("a sparse tensor is an all-reduce of its shape", () => {
    const sparse = sparseTensor({ indices: [[1], [0]], values: new Float64Array(1), shape: [4, 2] });
    expect(wordsOf("allReduceSparse", [sparseHeaderOf(sparse)], [])).toEqual([1, 7, 1, 7, 0, 2, 4, 2]);
  });
});

describe("decoded", () => {
  const random = (limit: number) => Math.floor(Math.random() * limit);
  const some = (): Fingerprint => ({
    opType: random(20),
    sequence: random(1e6),
    tensors: Array.from({ length: random(4) }, () => ({
      dtype: random(30),
      device: random(2),
      shape: Array.from({ length: random(5) }, () => random(1e9)),
    })),
  });

  test("gives what was encoded", () => {
    for (let i = 0; i < 200; i++) {
      const fingerprints = Array.from({ length: random(4) }, some);
      expect(decoded(encoded(fingerprints))).toEqual(fingerprints);
    }
  });

  test("refuses anything else", () => {
    expect(decoded(BigInt64Array.of(1n))).toBeUndefined();
    expect(decoded(BigInt64Array.of(1n, 0n, -1n))).toBeUndefined();
    expect(decoded(BigInt64Array.of(1n, 0n, 1n << 62n))).toBeUndefined();
    expect(decoded(BigInt64Array.of(1n, 0n, 1n, 6n, 0n, 3n, 4n, 4n))).toBeUndefined();
    for (let i = 0; i < 2_000; i++) {
      const words = encoded([some(), some()]);
      for (let at = random(words.length); at < words.length; at += 1 + random(9)) words[at] = BigInt(random(12) - 2);
      const own = decoded(words);
      if (own !== undefined) expect(encoded(own)).toEqual(words);
    }
  });
});

// As PyTorch 2.13 prints them.
describe("texts", () => {
  const options =
    "TensorOptions(dtype=float (default), device=cpu, layout=Strided (default), requires_grad=false (default), " +
    "pinned_memory=false (default), memory_format=(nullopt))";
  const reduce: Fingerprint = { opType: 1, sequence: 0, tensors: [{ dtype: 6, device: 0, shape: [3, 4] }] };
  const barrier: Fingerprint = { opType: 15, sequence: 1, tensors: [] };

  test("of a collective", () => {
    expect(textOf(reduce)).toBe(
      `CollectiveFingerPrint(SequenceNumber=0, OpType=ALLREDUCE, TensorShape=[3, 4], TensorDtypes=Float, TensorDeviceTypes=${options})`,
    );
    expect(textOf(barrier)).toBe("CollectiveFingerPrint(SequenceNumber=1OpType=BARRIER)");
    const two = { opType: 16, sequence: 3, tensors: [...reduce.tensors, { dtype: 11, device: 1, shape: [] }] };
    expect(textOf(two)).toBe(
      "CollectiveFingerPrint(SequenceNumber=3, OpType=_REDUCE_SCATTER_BASE, TensorShape=[3, 4], TensorDtypes=Float Bool, " +
        `TensorDeviceTypes=${options} ${options.replace("cpu", "cuda")})`,
    );
    expect(textOf({ opType: 55, sequence: 0, tensors: [] })).toContain("OpType=UNKNOWN)");
  });

  test("of a difference", () => {
    const begin = "Collectives differ in the following aspects: ";
    const [tensor] = reduce.tensors as [Fingerprint["tensors"][0]];
    const other = (changes: Partial<Fingerprint>) => differenceOf(reduce, { ...reduce, ...changes });
    expect(other({})).toBe("");
    expect(other({ sequence: 1 })).toBe(`${begin}\t Sequence number: 0vs 1`);
    expect(other({ opType: 0 })).toBe(`${begin}  Op type: ALLREDUCEvs BROADCAST`);
    expect(other({ tensors: [{ ...tensor, shape: [4, 3] }] })).toBe(`${begin}  Tensor Tensor shapes: 3 4vs 4 3`);
    expect(other({ tensors: [{ ...tensor, dtype: 3 }] })).toBe(`${begin}  Tensor Tensor dtypes: Floatvs Int`);
    expect(differenceOf(reduce, barrier)).toBe(
      `${begin}\t Sequence number: 0vs 1  Op type: ALLREDUCEvs BARRIER  Tensor Tensor shapes: 3 4vs ` +
        `  Tensor Tensor dtypes: Floatvs   Tensor Tensor devices: ${options}vs `,
    );
  });
});
