import { reduceElements } from "../../backends/fake/reduce-elements.ts";
import { ReduceOp, type ReduceOpName } from "../../collectives/index.ts";
import { type DType, dtypes, tensor } from "../../tensor/index.ts";

// Elements repeat with a prime period: long tensors are made and compared by copying bytes, and an element in a wrong
// place is still detected.
const PERIOD = 251;
const FACTOR = 0.5;

export const reduceOpOf: { readonly [name in ReduceOpName]: ReduceOp } = {
  SUM: ReduceOp.SUM,
  AVG: ReduceOp.AVG,
  PRODUCT: ReduceOp.PRODUCT,
  MIN: ReduceOp.MIN,
  MAX: ReduceOp.MAX,
  BAND: ReduceOp.BAND,
  BOR: ReduceOp.BOR,
  BXOR: ReduceOp.BXOR,
  PREMUL_SUM: ReduceOp.premulSum(FACTOR),
};

/** 32 bits that look random, the same on every rank. */
export function mix(...words: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const word of words) {
    hash = Math.imul(hash ^ word, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77);
    hash ^= hash >>> 13;
  }
  return hash >>> 0;
}

/** Bytes of `length` elements: the pattern repeated, starting at its element `offset`. */
export function tile(pattern: Uint8Array, dtype: DType, length: number, offset = 0): Uint8Array<ArrayBuffer> {
  const { size } = dtypes[dtype];
  const start = (offset * size) % pattern.length;
  const bytes = new Uint8Array(length * size);
  const period = new Uint8Array(pattern.length);
  period.set(pattern.subarray(start));
  period.set(pattern.subarray(0, start), pattern.length - start);
  bytes.set(period.subarray(0, bytes.length));
  for (let filled = period.length; filled < bytes.length; filled *= 2) bytes.copyWithin(filled, 0, filled);
  return bytes;
}

/** Patterns that have been made, since making one takes longer than the op that is tested with it. Only read. */
const patterns = new Map<string, Uint8Array<ArrayBuffer>>();

function known(key: string, make: () => Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  let pattern = patterns.get(key);
  if (pattern === undefined) {
    pattern = make();
    patterns.set(key, pattern);
  }
  return pattern;
}

/** One period of arbitrary bits, including NaNs of all kinds: for ops that only copy. */
export function anyBits(dtype: DType, ...seed: readonly number[]): Uint8Array<ArrayBuffer> {
  return known(`bits ${dtype} ${seed.join(" ")}`, () => {
    const start = mix(dtypes[dtype].code, ...seed);
    const mask = dtype === "bool" ? 1 : 0xff;
    const bytes = new Uint8Array(PERIOD * dtypes[dtype].size);
    for (let i = 0; i < bytes.length; i++) bytes[i] = mix(start, i) & mask;
    return bytes;
  });
}

/** One period of what a rank puts into a reduction. It is chosen so that the result is exact in every order. */
export function summands(dtype: DType, op: ReduceOpName, rank: number, worldSize: number): Uint8Array<ArrayBuffer> {
  return known(`summands ${dtype} ${op} ${rank} ${worldSize}`, () => makeSummands(dtype, op, rank, worldSize));
}

function makeSummands(dtype: DType, op: ReduceOpName, rank: number, worldSize: number): Uint8Array<ArrayBuffer> {
  const { kind, size, code } = dtypes[dtype];
  const count = kind === "complex" ? 2 * PERIOD : PERIOD;
  const elements = Array.from({ length: count }, (_, i) => {
    const random = mix(i, rank, code);
    if (op === "AVG") return (random % 5) * worldSize;
    if (kind === "bool") return random & 1;
    if (kind === "complex" && op === "PRODUCT") return (random % 5) - 2;
    if (kind === "float" || kind === "complex") return op === "PRODUCT" ? factorOf(random) : 2 * ((random % 31) - 15);
    // Integers span their whole range, so that sums and products wrap around.
    const bits = (BigInt(random) << 32n) | BigInt(mix(random, i));
    const whole = kind === "signed" ? BigInt.asIntN(8 * size, bits) : BigInt.asUintN(8 * size, bits);
    return size === 8 ? whole : Number(whole);
  });
  const { data } = tensor(elements, { dtype });
  return new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
}

/** One period of the reduction of all ranks' {@link summands}. */
export function reduction(dtype: DType, op: ReduceOpName, worldSize: number): Uint8Array<ArrayBuffer> {
  return known(`reduction ${dtype} ${op} ${worldSize}`, () => {
    const inputs = Array.from({ length: worldSize }, (_, rank) => summands(dtype, op, rank, worldSize));
    return reduceElements(dtype, reduceOpOf[op], inputs);
  });
}

// A bfloat16 has 8 significant bits: products of four of these are exact in every format.
const factors: readonly number[] = [1, -1, 2, -2, 0.5, 3, -3, 1.5];

function factorOf(random: number): number {
  return factors[random % factors.length] ?? 1;
}
