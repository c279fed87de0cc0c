import { describe, InvalidArgumentError } from "../errors/index.ts";
import { type DType, dtypes, requireDType } from "./dtype.ts";
import { type Tensor, type TensorStorage, tensor } from "./tensor.ts";
import { dtypeOfArray } from "./tensor-view.ts";

/** The TypedArray of each dtype; `bool`, `bfloat16`, 8-bit floats and complex numbers have none. */
export interface ArrayOfDType {
  float32: Float32Array<SharedArrayBuffer>;
  float64: Float64Array<SharedArrayBuffer>;
  float16: Float16Array<SharedArrayBuffer>;
  int8: Int8Array<SharedArrayBuffer>;
  uint8: Uint8Array<SharedArrayBuffer>;
  int16: Int16Array<SharedArrayBuffer>;
  uint16: Uint16Array<SharedArrayBuffer>;
  int32: Int32Array<SharedArrayBuffer>;
  uint32: Uint32Array<SharedArrayBuffer>;
  int64: BigInt64Array<SharedArrayBuffer>;
  uint64: BigUint64Array<SharedArrayBuffer>;
}

/** What {@link empty} returns: a TypedArray if that can express dtype and shape, else a {@link Tensor}. */
export type EmptyTensor<D extends DType, S extends number | readonly number[]> = S extends number | readonly [number]
  ? D extends keyof ArrayOfDType
    ? ArrayOfDType[D]
    : Tensor
  : S extends readonly [] | readonly [number, number, ...number[]]
    ? Tensor
    : Tensor | (D extends keyof ArrayOfDType ? ArrayOfDType[D] : never);

/**
 * Creates a tensor of zeros in shared memory (`SharedArrayBuffer`), which cannot be transferred or detached while an op
 * uses it. Best for gradients, parameters and other tensors that are passed to ops repeatedly.
 *
 * @param shape Number of elements, or the sizes of the dimensions. With one dimension and a dtype that a TypedArray
 *   has, the result is that TypedArray; else it is a {@link Tensor}.
 * @throws InvalidArgumentError for an unknown dtype, invalid sizes, or more than can be allocated (`OUT_OF_MEMORY`).
 *
 * c10d: `torch.empty(shape, dtype=…)`.
 */
export function empty<D extends DType, const S extends number | readonly number[]>(
  dtype: D,
  shape: S,
): EmptyTensor<D, S> {
  requireDType("empty()", dtype);
  const sizes: unknown = typeof shape === "number" ? [shape] : shape;
  if (!Array.isArray(sizes) || !sizes.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw new InvalidArgumentError(
      `empty(): shape must be a number of elements or a list of sizes, got ${Array.isArray(sizes) ? `[${sizes.map(String).join(", ")}]` : describe(sizes)}`,
      { argument: "shape" },
    );
  }
  const bytes = sizes.reduce((product: number, n: number) => product * n, dtypes[dtype].size);
  const made = tensor(memoryOf(bytes, sizes), { dtype, shape: sizes });
  const isPlain = sizes.length === 1 && dtypeOfArray(made.data) === dtype;
  return (isPlain ? made.data : made) as TensorStorage | Tensor as EmptyTensor<D, S>;
}

function memoryOf(bytes: number, shape: readonly number[]): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (cause) {
    throw new InvalidArgumentError(`empty(): cannot allocate ${bytes} bytes for shape [${shape.join(", ")}]`, {
      argument: "shape",
      code: "OUT_OF_MEMORY",
      cause,
    });
  }
}
