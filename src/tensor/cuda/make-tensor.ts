import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { Device } from "../device.ts";
import { type DType, dtypes, requireDType } from "../dtype.ts";
import type { ArrayOfDType, EmptyTensor } from "../empty.ts";
import { Tensor, type TensorStorage, tensor } from "../tensor.ts";
import { dtypeOfArray, type ForeignTensor, TENSOR_PROTOCOL, type TensorLike } from "../tensor-view.ts";
import { currentStream, placeOf, requireStream } from "./cuda-stream.ts";
import { type CopyOptions, CudaTensor, type StreamOptions } from "./cuda-tensor.ts";
import { type CudaDeviceLike, ordinalOf } from "./device-ordinal.ts";
import { requireDevicePointer } from "./device-pointer.ts";
import { pinnedBuffer } from "./pinned-memory.ts";
import { Storage } from "./storage.ts";
import { viewOfArgument } from "./view-of-argument.ts";

/** Where a tensor is made. */
export interface MakeOptions extends StreamOptions {
  /** The device of `stream` by default, else the current device. */
  readonly device?: CudaDeviceLike | undefined;
}

/** dtype of what a tensor was made from. */
type DTypeOf<T extends TensorLike> = {
  [D in keyof ArrayOfDType]: T extends { readonly [Symbol.toStringTag]: ArrayOfDType[D][typeof Symbol.toStringTag] }
    ? D
    : never;
}[keyof ArrayOfDType];

type OnDevice<T extends TensorLike> =
  T extends CudaTensor<infer D, infer S>
    ? CudaTensor<D, S>
    : T extends TensorStorage
      ? CudaTensor<DTypeOf<T>, number>
      : CudaTensor;

/** Memory of someone else, on a device. */
export interface ForeignMemory extends Omit<ForeignTensor, "device"> {
  /** One dimension with all elements by default. */
  readonly shape?: readonly number[] | undefined;
  /** The current device by default. */
  readonly device?: CudaDeviceLike | undefined;
  /** What owns the memory: kept alive as long as the tensor or an op uses it. */
  readonly owner?: unknown;
}

/**
 * A new tensor on a device, whose contents are undefined.
 *
 * @param shape Number of elements, or the sizes of the dimensions.
 * @throws InvalidArgumentError for invalid arguments; CudaError (`OUT_OF_MEMORY`) if the device has too little memory.
 *
 * c10d: `torch.empty(…, device="cuda")`.
 */
export function empty<D extends DType, const S extends number | readonly number[]>(
  dtype: D,
  shape: S,
  options: MakeOptions = {},
): CudaTensor<D, S> {
  return make("cuda.empty", dtype, shape, options);
}

function make<D extends DType, const S extends number | readonly number[]>(
  caller: string,
  dtype: D,
  shape: S,
  options: MakeOptions,
): CudaTensor<D, S> {
  requireDType(caller, dtype);
  const sizes = sizesOf(caller, dtype, shape);
  const bytes = sizes.reduce((product, n) => product * n, dtypes[dtype].size);
  const { stream } = options ?? {};
  const index = ordinalOf(caller, options?.device ?? stream?.device);
  const first = stream === undefined ? currentStream(index) : requireStream(caller, stream, index);
  return new CudaTensor<D, S>(Storage.allocate(bytes, placeOf(first)), 0, dtype, sizes);
}

/** A new tensor of zeros on a device. c10d: `torch.zeros(…, device="cuda")`. */
export function zeros<D extends DType, const S extends number | readonly number[]>(
  dtype: D,
  shape: S,
  options: MakeOptions = {},
): CudaTensor<D, S> {
  return filled(make("cuda.zeros", dtype, shape, options), (made) => made.zero({ stream: options?.stream }));
}

/**
 * A new tensor on a device with a copy of a tensor's elements, from the host or from a device. The copy is queued in the
 * stream; see {@link CudaTensor.copyFrom}. c10d: `tensor.to("cuda")`.
 */
export function from<const T extends TensorLike>(source: T, options: MakeOptions = {}): OnDevice<T> {
  const { dtype, length } = viewOfArgument("cuda.from", "source", source);
  const shape = source instanceof Tensor || source instanceof CudaTensor ? source.shape : [length];
  const made = make("cuda.from", dtype, shape, options);
  return filled(made, () => made.copyFrom(source, { stream: options?.stream })) as unknown as OnDevice<T>;
}

/** Disposes of a tensor whose contents could not be queued. */
function filled<T extends CudaTensor>(made: T, fill: (made: T) => unknown): T {
  try {
    fill(made);
    return made;
  } catch (error) {
    made[Symbol.dispose]();
    throw error;
  }
}

/** A copy of a tensor in host memory: `tensor.toHost()` for any tensor of a device. */
export function toHost<D extends DType, S extends number | readonly number[]>(
  source: CudaTensor<D, S>,
  options?: CopyOptions,
): Promise<EmptyTensor<D, S>>;
export function toHost(source: TensorLike, options?: CopyOptions): Promise<TensorStorage | Tensor>;
export async function toHost(source: TensorLike, options?: CopyOptions): Promise<unknown> {
  if (source instanceof CudaTensor) return source.toHost(options);
  using view = overForeign("cuda.toHost", source);
  return await view.toHost(options);
}

/** A tensor of a device that implements the protocol, as a {@link CudaTensor} over its memory. */
export function overForeign(caller: string, source: TensorLike): CudaTensor {
  const { ptr, byteLength, dtype, device } = viewOfArgument(caller, "source", source);
  if (device.type !== "cuda") {
    throw new InvalidArgumentError(`${caller}: source is not on a CUDA device`, { argument: "source" });
  }
  return foreign({ ptr, byteLength, dtype, device, owner: source });
}

/**
 * A tensor over memory of a device that another library owns. Disposing of it does not free that.
 *
 * @throws InvalidArgumentError unless the memory begins and ends on that device, by `cuPointerGetAttribute`.
 */
export function foreign<D extends DType>(
  memory: ForeignMemory & { readonly dtype: D },
): CudaTensor<D, readonly number[]> {
  if (typeof memory !== "object" || memory === null) {
    throw new InvalidArgumentError(
      `cuda.foreign: memory must be { ptr, byteLength, dtype, shape?, device? }, got ${describe(memory)}`,
      { argument: "memory" },
    );
  }
  const { ptr, byteLength, dtype, owner } = memory;
  const device: Device = { type: "cuda", index: ordinalOf("cuda.foreign", memory.device) };
  const view = viewOfArgument("cuda.foreign", "memory", {
    [TENSOR_PROTOCOL]: () => ({ ptr, byteLength, dtype, device }),
  });
  const shape = memory.shape ?? [view.length];
  const sizes = sizesOf("cuda.foreign", dtype, shape);
  if (sizes.reduce((product, n) => product * n, 1) !== view.length) {
    throw new InvalidArgumentError(
      `cuda.foreign: shape [${sizes.join(", ")}] does not hold ${view.length} elements of ${dtype}`,
      { argument: "shape" },
    );
  }
  requireDevicePointer("cuda.foreign", view);
  return new CudaTensor<D, readonly number[]>(Storage.foreign(ptr, device.index, owner), 0, dtype, sizes);
}

/**
 * A tensor of zeros in page-locked host memory, which devices copy from and to without an intermediate copy: a TypedArray
 * if that can express dtype and shape, else a `Tensor`. It is freed when it was collected and no copy uses it.
 *
 * c10d: `tensor.pin_memory()`.
 */
export function pinned<D extends DType, const S extends number | readonly number[]>(
  dtype: D,
  shape: S,
): PinnedTensor<D, S> {
  requireDType("cuda.pinned", dtype);
  const sizes = sizesOf("cuda.pinned", dtype, shape);
  const bytes = sizes.reduce((product, n) => product * n, dtypes[dtype].size);
  const made = tensor(bytes === 0 ? new ArrayBuffer(0) : pinnedBuffer(bytes), { dtype, shape: sizes });
  const isPlain = sizes.length === 1 && dtypeOfArray(made.data) === dtype;
  return (isPlain ? made.data : made) as TensorStorage | Tensor as PinnedTensor<D, S>;
}

/** The TypedArray of each dtype over an ArrayBuffer. */
type PinnedArrays = {
  [D in keyof ArrayOfDType]: ReturnType<ArrayOfDType[D]["slice"]>;
};

/** What {@link pinned} returns. */
export type PinnedTensor<D extends DType, S extends number | readonly number[]> =
  EmptyTensor<D, S> extends Tensor
    ? Tensor
    : S extends number | readonly [number]
      ? D extends keyof PinnedArrays
        ? PinnedArrays[D]
        : Tensor
      : Tensor | (D extends keyof PinnedArrays ? PinnedArrays[D] : never);

/** @throws InvalidArgumentError for invalid sizes, or more bytes than there are numbers for (`OUT_OF_MEMORY`). */
function sizesOf(caller: string, dtype: DType, shape: unknown): readonly number[] {
  const sizes: unknown = typeof shape === "number" ? [shape] : shape;
  const given = Array.isArray(sizes) ? `[${sizes.map(String).join(", ")}]` : describe(sizes);
  if (!Array.isArray(sizes) || !sizes.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw new InvalidArgumentError(`${caller}: shape must be a number of elements or a list of sizes, got ${given}`, {
      argument: "shape",
    });
  }
  const bytes = sizes.reduce((product: number, n: number) => product * n, dtypes[dtype].size);
  if (Number.isSafeInteger(bytes)) return sizes;
  throw new InvalidArgumentError(`${caller}: no device has the ${bytes} bytes of shape ${given}`, {
    argument: "shape",
    code: "OUT_OF_MEMORY",
  });
}
