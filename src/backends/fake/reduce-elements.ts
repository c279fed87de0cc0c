import type { ReduceOp, ReduceOpName } from "../../collectives/reduce-op.ts";
import { UnsupportedOperationError } from "../../errors/index.ts";
import { bfloat16FromNumber, type DType, dtypes, numberFromBfloat16, type TensorStorage } from "../../tensor/index.ts";
import { elementsOf } from "./element-bytes.ts";

/**
 * Reduces the elements of all ranks, in the order of ranks, and returns the result as new bytes.
 *
 * Every step is rounded to the dtype (bfloat16: through float32); integers wrap around. AVG divides the sum at the
 * end, integers towards zero. PREMUL_SUM rounds each product. NaN wins over any number in MIN and MAX. A bool is true
 * unless its byte is 0: SUM, MAX and BOR are "or", PRODUCT, MIN and BAND "and", BXOR is "not equal".
 *
 * @param inputs Bytes of each rank's elements, all of one length.
 * @throws UnsupportedOperationError for pairs without a meaning, e.g. BAND of floats.
 */
export function reduceElements(
  dtype: DType,
  op: ReduceOp,
  inputs: readonly Uint8Array<ArrayBufferLike>[],
): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(inputs[0] ?? new Uint8Array(0));
  switch (dtypes[dtype].kind) {
    case "bool":
      reduceBools(result, inputs, op.name);
      break;
    case "complex":
      reduceComplex(result, inputs, dtype, op);
      break;
    case "float8":
      throw meaningless(op.name, dtype);
    default:
      if (dtype === "int64" || dtype === "uint64") reduceBigInts(result, inputs, dtype, op);
      else reduceNumbers(result, inputs, dtype, op);
  }
  return result;
}

type Bytes = Uint8Array<ArrayBufferLike>;
type BigIntArray = BigInt64Array | BigUint64Array;
type NumberArray = Exclude<TensorStorage, BigIntArray>;
type Combine<T> = (a: T, b: T) => T;

const floats: { readonly [op in ReduceOpName]?: Combine<number> } = {
  SUM: (a, b) => a + b,
  PRODUCT: (a, b) => a * b,
  MIN: (a, b) => Math.min(a, b),
  MAX: (a, b) => Math.max(a, b),
};

// The array that stores them truncates them to its 8, 16 or 32 bits.
const integers: { readonly [op in ReduceOpName]?: Combine<number> } = {
  ...floats,
  PRODUCT: (a, b) => Math.imul(a, b),
  BAND: (a, b) => a & b,
  BOR: (a, b) => a | b,
  BXOR: (a, b) => a ^ b,
};

// The array that stores them truncates them to its 64 bits.
const bigInts: { readonly [op in ReduceOpName]?: Combine<bigint> } = {
  SUM: (a, b) => a + b,
  PRODUCT: (a, b) => a * b,
  MIN: lesser,
  MAX: (a, b) => (lesser(a, b) === a ? b : a),
  BAND: (a, b) => a & b,
  BOR: (a, b) => a | b,
  BXOR: (a, b) => a ^ b,
};

const or: Combine<boolean> = (a, b) => a || b;
const and: Combine<boolean> = (a, b) => a && b;
const bools: { readonly [op in ReduceOpName]?: Combine<boolean> } = {
  SUM: or,
  MAX: or,
  BOR: or,
  PRODUCT: and,
  MIN: and,
  BAND: and,
  BXOR: (a, b) => a !== b,
};

function reduceNumbers(result: Bytes, inputs: readonly Bytes[], dtype: DType, op: ReduceOp): void {
  const isFloat = dtypes[dtype].kind === "float";
  const combine = pick(isFloat ? floats : integers, op, dtype);
  const [read, write] = dtype === "bfloat16" ? [numberFromBfloat16, bfloat16FromNumber] : [same, same];
  const into = numbersOf(result, dtype);
  const views = inputs.map((input) => numbersOf(input, dtype));
  const scale = op.name === "PREMUL_SUM";
  // Each value goes through the array, which rounds or wraps it as the dtype does.
  const stored = (i: number, value: number): number => {
    into[i] = write(value);
    return read(Number(into[i]));
  };
  const element = (rank: number, i: number): number => {
    const value = read(Number(views[rank]?.[i]));
    return scale ? stored(i, value * op.factor) : value;
  };
  for (let i = 0; i < into.length; i++) {
    let left = element(0, i);
    for (let rank = 1; rank < views.length; rank++) left = stored(i, combine(left, element(rank, i)));
    if (op.name === "AVG") stored(i, isFloat ? left / views.length : Math.trunc(left / views.length));
  }
}

function reduceBigInts(result: Bytes, inputs: readonly Bytes[], dtype: "int64" | "uint64", op: ReduceOp): void {
  const combine = pick(bigInts, op, dtype);
  const into = bigIntsOf(result, dtype);
  const [, ...others] = inputs.map((input) => bigIntsOf(input, dtype));
  for (let i = 0; i < into.length; i++) {
    for (const other of others) into[i] = combine(into[i] ?? 0n, other[i] ?? 0n);
    if (op.name === "AVG") into[i] = (into[i] ?? 0n) / BigInt(inputs.length);
  }
}

function reduceBools(result: Bytes, inputs: readonly Bytes[], name: ReduceOpName): void {
  const combine = bools[name];
  if (combine === undefined) throw meaningless(name, "bool");
  for (let i = 0; i < result.length; i++) {
    result[i] = inputs.map((input) => input[i] !== 0).reduce(combine) ? 1 : 0;
  }
}

function reduceComplex(result: Bytes, inputs: readonly Bytes[], dtype: DType, op: ReduceOp): void {
  // Addition, and scaling by a real factor, act on the real and imaginary parts separately.
  const parts = dtype === "complex64" ? "float32" : "float64";
  if (op.name === "SUM" || op.name === "AVG" || op.name === "PREMUL_SUM") {
    reduceNumbers(result, inputs, parts, op);
    return;
  }
  if (op.name !== "PRODUCT") throw meaningless(op.name, dtype);
  const into = numbersOf(result, dtype);
  for (const input of inputs.slice(1)) {
    const view = numbersOf(input, dtype);
    for (let i = 0; i < into.length; i += 2) {
      const [a, b, c, d] = [Number(into[i]), Number(into[i + 1]), Number(view[i]), Number(view[i + 1])];
      into[i] = a * c - b * d;
      into[i + 1] = a * d + b * c;
    }
  }
}

function numbersOf(bytes: Bytes, dtype: DType): NumberArray {
  return elementsOf(bytes, dtype) as NumberArray;
}

function bigIntsOf(bytes: Bytes, dtype: "int64" | "uint64"): BigIntArray {
  return elementsOf(bytes, dtype) as BigIntArray;
}

function lesser(a: bigint, b: bigint): bigint {
  if (b < a) return b;
  return a;
}

function same(value: number): number {
  return value;
}

function pick<T>(table: { readonly [op in ReduceOpName]?: Combine<T> }, { name }: ReduceOp, dtype: DType): Combine<T> {
  const summing = name === "AVG" || (name === "PREMUL_SUM" && !isInteger(dtype));
  const combine = table[summing ? "SUM" : name];
  if (combine === undefined) throw meaningless(name, dtype);
  return combine;
}

function isInteger(dtype: DType): boolean {
  return dtypes[dtype].kind === "signed" || dtypes[dtype].kind === "unsigned";
}

function meaningless(name: ReduceOpName, dtype: DType): UnsupportedOperationError {
  return new UnsupportedOperationError(`ReduceOp.${name} has no meaning for ${dtype} elements`, { argument: "op" });
}
