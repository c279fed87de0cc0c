import { isFloat32Array, isUint8ClampedArray } from "node:util/types";
import { describe, describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { CPU, type Device, parseDevice } from "./device.ts";
import { alignmentOf, type DType, dtypes, isDType } from "./dtype.ts";
import { byteLengthOf, bytesOf, isDetached, typedArrayName } from "./memory.ts";
import { holds, Tensor, type TensorStorage } from "./tensor.ts";

/** Key of the method by which any object can be a tensor: it returns a {@link ForeignTensor}. */
export const TENSOR_PROTOCOL: unique symbol = Symbol.for("c10d.tensor");

/** Memory that another library owns, e.g. a device buffer. */
export interface ForeignTensor {
  /** Address of the first element. */
  readonly ptr: number;
  readonly byteLength: number;
  readonly dtype: DType;
  /** `"cpu"`, `"cuda"`, `"cuda:1"` or a {@link Device}. Defaults to the CPU. */
  readonly device?: string | Device;
}

/** Everything that an op accepts as a tensor. */
export type TensorLike = TensorStorage | Uint8ClampedArray | Tensor | { [TENSOR_PROTOCOL](): ForeignTensor };

/**
 * A tensor as a backend sees it: dtype, size, and either a view over host memory or an address.
 * Made once per op by the process group, after validation.
 */
export interface TensorView {
  /** The object the caller passed; what the `Work` of an in-place op resolves to. */
  readonly source: TensorLike;
  /** Host memory of the elements; `undefined` for foreign memory, which has `ptr`. */
  readonly data: TensorStorage | undefined;
  readonly ptr: number;
  readonly dtype: DType;
  /** Number of elements. */
  readonly length: number;
  readonly byteLength: number;
  readonly device: Device;
}

/** dtype of a TypedArray; undefined for other values (DataView, plain objects). */
export function dtypeOfArray(value: unknown): DType | undefined {
  return arrayDTypes.get(typedArrayName(value));
}

const arrayDTypes: ReadonlyMap<string | undefined, DType> = new Map<string | undefined, DType>([
  ["Float32Array", "float32"],
  ["Float64Array", "float64"],
  ["Float16Array", "float16"],
  ["Int8Array", "int8"],
  ["Uint8Array", "uint8"],
  ["Uint8ClampedArray", "uint8"],
  ["Int16Array", "int16"],
  ["Uint16Array", "uint16"],
  ["Int32Array", "int32"],
  ["Uint32Array", "uint32"],
  ["BigInt64Array", "int64"],
  ["BigUint64Array", "uint64"],
]);

/**
 * Reads dtype, size and location of a tensor.
 *
 * @param argument Name of the argument, for the error.
 * @throws InvalidArgumentError for anything that is not a tensor, and for detached buffers.
 */
export function viewTensor(value: TensorLike, argument = "tensor"): TensorView {
  if (isFloat32Array(value)) return viewOfStorage(value, value, "float32", argument);
  const dtype = dtypeOfArray(value);
  if (dtype !== undefined) return viewOfStorage(value, value as TensorStorage, dtype, argument);
  if (value instanceof Tensor) return viewOfTensor(value, argument);
  if (isForeign(value)) return viewOfForeign(value, argument);
  throw new InvalidArgumentError(
    `${argument} must be a TypedArray, a tensor() or an object with [Symbol.for("c10d.tensor")](), got ${describe(value)}`,
    { argument },
  );
}

/**
 * Dimensions of a tensor: those of a {@link Tensor}, or of a foreign tensor that has a `shape`. A part of one has one
 * dimension.
 */
export function shapeOfView({ source, data, length }: TensorView): readonly number[] {
  if (source instanceof Tensor) return holds(source.shape, length) ? source.shape : [length];
  if (data !== undefined) return [length];
  const { shape } = source as { readonly shape?: unknown };
  return Array.isArray(shape) && holds(shape, length) ? shape : [length];
}

/** A part of a tensor, in the same memory: `length` elements from `start` on. */
export function partOfView(view: TensorView, start: number, length: number): TensorView {
  const { data, dtype, ptr } = view;
  const { size } = dtypes[dtype];
  const byteLength = length * size;
  if (data === undefined) return { ...view, ptr: ptr + start * size, length, byteLength };
  const bytes = bytesOf(data);
  const make = constructors.get(typedArrayName(data)) ?? Uint8Array;
  const part = new make(bytes.buffer, bytes.byteOffset + start * size, byteLength / make.BYTES_PER_ELEMENT);
  return { ...view, data: part as TensorStorage, length, byteLength };
}

type StorageConstructor = {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): ArrayBufferView;
  readonly BYTES_PER_ELEMENT: number;
};

const constructors: ReadonlyMap<string | undefined, StorageConstructor> = new Map<
  string | undefined,
  StorageConstructor
>(
  [
    Float32Array,
    Float64Array,
    Float16Array,
    Int8Array,
    Uint8Array,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    BigInt64Array,
    BigUint64Array,
  ].map((each) => [each.name, each]),
);

function viewOfTensor(source: Tensor, argument: string): TensorView {
  const { data, dtype, shape } = source;
  if (!isDType(dtype) || dtypeOfArray(data) === undefined) {
    throw new InvalidArgumentError(
      `${argument}: a Tensor has a TypedArray as data and a dtype, got ${describe(data)} and ${describe(dtype)}`,
      { argument },
    );
  }
  const view = viewOfStorage(source, data, dtype, argument);
  if (holds(shape, view.length)) return view;
  throw new InvalidArgumentError(
    `${argument}: its shape ${Array.isArray(shape) ? `[${shape.map(String).join(", ")}]` : describe(shape)} does not hold its ${view.length} elements`,
    { argument },
  );
}

function viewOfStorage(source: TensorLike, data: TensorStorage, dtype: DType, argument: string): TensorView {
  const byteLength = byteLengthOf(data);
  // Only an empty view can have lost its memory, so the common case pays nothing.
  if (byteLength === 0 && isDetached(data)) {
    throw new InvalidArgumentError(
      `${argument}: its ArrayBuffer is detached (it was transferred or posted elsewhere) or has shrunk`,
      {
        code: "DETACHED_BUFFER",
        argument,
      },
    );
  }
  const length = byteLength / dtypes[dtype].size;
  if (!Number.isInteger(length)) {
    throw new InvalidArgumentError(`${argument}: ${byteLength} bytes are not a whole number of ${dtype} elements`, {
      argument,
    });
  }
  // Writes to the view must not clamp the bytes.
  const bytes = dtype === "uint8" && isUint8ClampedArray(data) ? bytesOf(data) : data;
  return { source, data: bytes, ptr: 0, dtype, length, byteLength, device: CPU };
}

function isForeign(value: unknown): value is { [TENSOR_PROTOCOL](): ForeignTensor } {
  return typeof value === "object" && value !== null && TENSOR_PROTOCOL in value;
}

function viewOfForeign(source: { [TENSOR_PROTOCOL](): ForeignTensor }, argument: string): TensorView {
  const method: unknown = source[TENSOR_PROTOCOL];
  const given: unknown = typeof method === "function" ? source[TENSOR_PROTOCOL]() : undefined;
  if (typeof given !== "object" || given === null) {
    throw new InvalidArgumentError(
      `${argument}: [Symbol.for("c10d.tensor")]() must return { ptr, byteLength, dtype, device }, got ${describe(given)}`,
      { argument },
    );
  }
  const { ptr, byteLength, dtype, device } = given as ForeignTensor;
  if (!isDType(dtype)) throw new InvalidArgumentError(`${argument}: unknown dtype ${String(dtype)}`, { argument });
  const { size } = dtypes[dtype];
  if (!Number.isSafeInteger(byteLength) || byteLength < 0 || byteLength % size !== 0) {
    throw new InvalidArgumentError(
      `${argument}: byteLength ${describeNumber(byteLength)} is not a whole number of ${dtype} elements`,
      {
        argument,
      },
    );
  }
  if (!Number.isSafeInteger(ptr) || ptr < 0 || (ptr === 0 && byteLength > 0)) {
    throw new InvalidArgumentError(`${argument}: ptr ${describeNumber(ptr)} is not an address`, { argument });
  }
  if (!Number.isSafeInteger(ptr + byteLength)) {
    throw new InvalidArgumentError(
      `${argument}: ${byteLength} bytes from ptr ${ptr} on extend beyond 2^53, where no memory can be`,
      { argument },
    );
  }
  const place = deviceOfForeign(device, argument);
  const alignment = alignmentOf(dtype);
  // The processor reads such elements, kernels fail, and take the context of the device with them.
  if (place.type !== "cpu" && ptr % alignment !== 0) {
    throw new InvalidArgumentError(
      `${argument}: ptr ${ptr} is not the address of ${dtype} elements on a device, which is a multiple of ${alignment}`,
      { argument, code: "MISALIGNED" },
    );
  }
  return { source, data: undefined, ptr, dtype, length: byteLength / size, byteLength, device: place };
}

function deviceOfForeign(device: string | Device | undefined, argument: string): Device {
  if (device === undefined) return CPU;
  const found = parseDevice(device);
  if (found !== undefined) return found;
  const given = typeof device === "string" ? `"${device}"` : (JSON.stringify(device) ?? String(device));
  throw new InvalidArgumentError(`${argument}: unknown device ${given}`, { argument });
}
