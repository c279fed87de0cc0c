import {
  type CudaStream,
  cuda,
  type Device,
  type DType,
  empty,
  type TensorLike,
  type TensorStorage,
  viewTensor,
} from "../../tensor/index.ts";
import { isOnDevice } from "../device-limits.ts";
import { copyElements, partOfStorage } from "../elements.ts";
import { storageOf } from "../parameter.ts";
import { cudaTensorOf } from "./cuda-tensor-of.ts";

/** Tensors of one dtype and device one after the other in one tensor, which is exchanged in their place. */
export interface FlatTensor extends Disposable {
  readonly buffer: TensorLike;
  /** Copies the tensors into the flat one. */
  gather(): void;
  /** Copies them back. */
  scatter(): void;
  /** Calls a function whose ops come after {@link gather}, and before {@link scatter} if they have ended by then. */
  run<T>(body: () => T): T;
}

/** Makes the flat tensor of at least one tensor. @throws UnsupportedOperationError for memory that cannot be copied. */
export function flatten(tensors: readonly TensorLike[]): FlatTensor {
  const views = tensors.map((tensor) => viewTensor(tensor));
  const { device, dtype } = views[0] as { readonly device: Device; readonly dtype: DType };
  const lengths = views.map(({ length }) => length);
  return isOnDevice({ device })
    ? flattenOnDevice(tensors, lengths, dtype, device)
    : flattenOnHost(tensors, lengths, dtype);
}

function flattenOnHost(tensors: readonly TensorLike[], lengths: readonly number[], dtype: DType): FlatTensor {
  const all = tensors.map((tensor, i) => storageOf(tensor, `tensors[${i}]`));
  const buffer = empty(dtype, sum(lengths));
  const storage = storageOf(buffer, "buffer");
  const parts = partsOf(lengths, (start, length) => partOfStorage(storage, dtype, start, length));
  const copyAll = (copy: (own: TensorStorage, part: TensorStorage) => void) => {
    for (const [i, own] of all.entries()) copy(own, parts[i] as TensorStorage);
  };
  return {
    buffer,
    gather: () => copyAll((own, part) => copyElements(part, dtype, own, dtype)),
    scatter: () => copyAll((own, part) => copyElements(own, dtype, part, dtype)),
    run: (body) => body(),
    [Symbol.dispose]: () => {},
  };
}

/** In the stream that is current now. */
function flattenOnDevice(
  tensors: readonly TensorLike[],
  lengths: readonly number[],
  dtype: DType,
  device: Device,
): FlatTensor {
  const all = tensors.map(cudaTensorOf);
  const stream: CudaStream = cuda.currentStream(device);
  const buffer = cuda.empty(dtype, sum(lengths), { stream });
  const parts = partsOf(lengths, (start, length) => buffer.slice(start, length));
  return {
    buffer,
    gather: () => {
      for (const [i, part] of parts.entries()) part.copyFrom(all[i] as TensorLike, { stream });
    },
    scatter: () => {
      for (const [i, own] of all.entries()) own.copyFrom(parts[i] as TensorLike, { stream });
    },
    run: (body) => cuda.withStream(stream, body),
    [Symbol.dispose]: () => {
      for (const each of [...parts, buffer]) each[Symbol.dispose]();
    },
  };
}

function partsOf<T>(lengths: readonly number[], part: (start: number, length: number) => T): T[] {
  let start = 0;
  return lengths.map((length) => {
    const made = part(start, length);
    start += length;
    return made;
  });
}

function sum(lengths: readonly number[]): number {
  return lengths.reduce((total, length) => total + length, 0);
}
