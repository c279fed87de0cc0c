import { isBigInt64Array, isBigUint64Array } from "node:util/types";
import { brand, describe, describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { bfloat16FromNumber, numberFromBfloat16 } from "./bfloat16.ts";
import { type DType, dtypes, requireDType } from "./dtype.ts";
import { float8E4M3FN, float8E5M2, type NumberEncoding } from "./float8.ts";
import { type ByteRange, byteLengthOf, isDetachedBuffer, memoryOf } from "./memory.ts";

/** Views that hold the elements of a {@link Tensor}. */
export type TensorStorage =
  | Float32Array
  | Float64Array
  | Float16Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Options of {@link tensor}. */
export interface TensorOptions {
  readonly dtype: DType;
  /** Defaults to one dimension with all elements. */
  readonly shape?: readonly number[];
}

const storageOf = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Float16Array,
  bfloat16: Uint16Array,
  float8_e4m3fn: Uint8Array,
  float8_e5m2: Uint8Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  complex64: Float32Array,
  complex128: Float64Array,
} as const;

/** Conversion between numbers and raw bits, for floats that no TypedArray has. */
const encodings: { readonly [dtype in DType]?: NumberEncoding } = {
  bfloat16: { encode: bfloat16FromNumber, decode: numberFromBfloat16 },
  float8_e4m3fn: float8E4M3FN,
  float8_e5m2: float8E5M2,
};

/**
 * A dense CPU tensor, for dtypes that no TypedArray has (bool, bfloat16, 8-bit floats, complex) and for shapes.
 * Plain TypedArrays need no wrapper: every op accepts them directly.
 */
export class Tensor {
  static {
    brand(Tensor, "Tensor");
  }
  /** Type of the elements. */
  readonly dtype: DType;
  /** Length of each dimension. */
  readonly shape: readonly number[];
  /** The elements, row-major: bfloat16 and 8-bit floats as raw bits, bool as 0/1 bytes, complex as (re, im) pairs. */
  readonly data: TensorStorage;

  constructor(data: TensorStorage, dtype: DType, shape: readonly number[]) {
    this.data = data;
    this.dtype = dtype;
    this.shape = shape;
  }

  /** Number of elements (a complex number is one element). */
  get length(): number {
    return byteLengthOf(this.data) / dtypes[this.dtype].size;
  }

  get byteLength(): number {
    return byteLengthOf(this.data);
  }

  /**
   * The elements as numbers; bfloat16 and 8-bit floats are widened, bool is 0/1, complex is (re, im) pairs. Not for
   * 64-bit integers.
   */
  toNumbers(): number[] {
    if (isBigInt64Array(this.data) || isBigUint64Array(this.data)) {
      throw new InvalidArgumentError(`toNumbers() cannot hold ${this.dtype} exactly; read .data instead`);
    }
    const values = Array.from(this.data);
    const encoding = encodings[this.dtype];
    return encoding === undefined ? values : values.map(encoding.decode);
  }
}

/**
 * Creates a tensor over `data` (shared, not copied) or from numbers (copied).
 *
 * @param data A TypedArray or ArrayBuffer whose bytes are the elements, or a list of numbers, booleans or bigints
 *   (complex: re, im, re, im …). Integer dtypes truncate fractions.
 * @throws InvalidArgumentError when the dtype is unknown, the sizes do not match, or the dtype cannot hold a value:
 *   integer dtypes reject NaN and out-of-range values (`torch.tensor` turns -1 into 255; here nothing wraps around).
 *   Floats round as in PyTorch: out of range to infinity, or to ±448 for float8_e4m3fn, which has no infinity.
 *
 * c10d: `torch.tensor(data, dtype=…)`.
 */
export function tensor(
  data: TensorStorage | Uint8ClampedArray | DataView | ArrayBufferLike | readonly (number | bigint | boolean)[],
  options: TensorOptions,
): Tensor {
  if (typeof options !== "object" || options === null) {
    throw new InvalidArgumentError(
      `tensor(): options must be an object such as { dtype: "float32" }, got ${describe(options)}`,
      { argument: "options" },
    );
  }
  const { dtype } = options;
  requireDType("tensor()", dtype);
  const storage = isNumberList(data) ? storageFromValues(data, dtype) : storageOver(data, dtype);
  const length = byteLengthOf(storage) / dtypes[dtype].size;
  const shape = options.shape ?? [length];
  if (!holds(shape, length)) {
    throw new InvalidArgumentError(
      `tensor(): shape ${Array.isArray(shape) ? `[${shape.map(String).join(", ")}]` : describe(shape)} does not hold ${length} elements of ${dtype}`,
      { argument: "shape" },
    );
  }
  return new Tensor(storage, dtype, shape);
}

/** Whether a shape is valid and has this many elements. */
export function holds(shape: readonly number[], length: number): boolean {
  if (!Array.isArray(shape) || !shape.every((n) => Number.isInteger(n) && n >= 0)) return false;
  return shape.reduce((product: number, n: number) => product * n, 1) === length;
}

function isNumberList(data: unknown): data is readonly (number | bigint | boolean)[] {
  return Array.isArray(data);
}

function storageOver(data: unknown, dtype: DType): TensorStorage {
  const Storage = storageOf[dtype];
  const { size } = dtypes[dtype];
  const { buffer, byteOffset: offset, byteLength: bytes } = rangeOf(data);
  if (bytes % size !== 0) {
    throw new InvalidArgumentError(
      `tensor(): ${bytes} bytes are not a whole number of ${dtype} elements (${size} bytes each)`,
      { argument: "data" },
    );
  }
  if (offset % Storage.BYTES_PER_ELEMENT !== 0) {
    throw new InvalidArgumentError(`tensor(): byte offset ${offset} is not aligned for ${dtype}`, {
      argument: "data",
    });
  }
  return new Storage(buffer as ArrayBuffer, offset, bytes / Storage.BYTES_PER_ELEMENT);
}

function rangeOf(data: unknown): ByteRange {
  const range = memoryOf(data);
  if (range === undefined) {
    throw new InvalidArgumentError(
      `tensor(): data must be a TypedArray, an ArrayBuffer or a list of numbers, got ${describe(data)}`,
      { argument: "data" },
    );
  }
  if (isDetachedBuffer(range.buffer)) {
    throw new InvalidArgumentError("tensor(): its ArrayBuffer is detached (it was transferred or posted elsewhere)", {
      code: "DETACHED_BUFFER",
      argument: "data",
    });
  }
  return range;
}

function storageFromValues(given: readonly (number | bigint | boolean)[], dtype: DType): TensorStorage {
  const limits = limitsOf(dtype);
  // Read once: a getter may return another value the next time. Holes become undefined.
  const values = Array.from(given);
  for (const [i, value] of values.entries()) requireValue(value, i, dtype, limits);
  if (dtype === "int64") return BigInt64Array.from(values, integerOf);
  if (dtype === "uint64") return BigUint64Array.from(values, integerOf);
  if (dtype === "bool") return Uint8Array.from(values, (v) => (v || Number.isNaN(v) ? 1 : 0));
  if ((dtype === "complex64" || dtype === "complex128") && values.length % 2 !== 0) {
    throw new InvalidArgumentError(`tensor(): ${dtype} takes (re, im) pairs, got ${values.length} numbers`, {
      argument: "data",
    });
  }
  const numbers = values.map(Number);
  const encoding = encodings[dtype];
  return new storageOf[dtype](encoding === undefined ? numbers : numbers.map(encoding.encode));
}

interface Limits {
  readonly min: number | bigint;
  readonly max: number | bigint;
}

/** Least and largest value of an integer dtype, else undefined. As numbers if these are exact, which is faster. */
function limitsOf(dtype: DType): Limits | undefined {
  const { kind, size } = dtypes[dtype];
  if (kind !== "signed" && kind !== "unsigned") return undefined;
  const bits = BigInt(8 * size);
  const max = kind === "signed" ? 2n ** (bits - 1n) - 1n : 2n ** bits - 1n;
  const min = kind === "signed" ? -max - 1n : 0n;
  return size < 8 ? { min: Number(min), max: Number(max) } : { min, max };
}

/** Throws unless a dtype can hold a value; fractions are truncated and floats rounded, but nothing wraps around. */
function requireValue(value: unknown, i: number, dtype: DType, limits: Limits | undefined): void {
  if (typeof value === "boolean") return;
  if (Array.isArray(value)) {
    throw new InvalidArgumentError(
      `tensor(): element ${i} is a list; give the numbers in one list, and the sizes as shape: [2, 3]`,
      { argument: "data" },
    );
  }
  if (typeof value !== "number" && typeof value !== "bigint") refuseValue(value, i, dtype, "");
  if (limits === undefined) return;
  if (typeof value === "number" && !Number.isFinite(value)) {
    refuseValue(value, i, dtype, "; integers have neither NaN nor Infinity");
  }
  const { min, max } = limits;
  if (value < min || value > max) refuseValue(value, i, dtype, `, which holds ${min} to ${max}`);
}

function refuseValue(value: unknown, i: number, dtype: DType, reason: string): never {
  const given = typeof value === "bigint" ? String(value) : describeNumber(value);
  throw new InvalidArgumentError(`tensor(): element ${i}, ${given}, is not a value of ${dtype}${reason}`, {
    argument: "data",
    code: "VALUE_OUT_OF_RANGE",
  });
}

function integerOf(value: number | bigint | boolean): bigint {
  return BigInt(typeof value === "number" ? Math.trunc(value) : value);
}
