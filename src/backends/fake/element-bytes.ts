import { type Pointer, toArrayBuffer } from "bun:ffi";
import {
  bytesOf as bytesOfStorage,
  type DType,
  isWhole,
  type TensorStorage,
  type TensorView,
  tensor,
} from "../../tensor/index.ts";

/** Whether the memory of a tensor is still there. */
export function isThere({ data, byteLength }: TensorView): boolean {
  return data === undefined || isWhole(data, byteLength);
}

/** The memory of a tensor as bytes; foreign host memory is read in place. */
export function bytesOf({ data, ptr, byteLength }: TensorView): Uint8Array<ArrayBufferLike> {
  // Even if the memory of an empty tensor is gone or never existed.
  if (byteLength === 0) return new Uint8Array(0);
  if (data !== undefined) return bytesOfStorage(data, byteLength);
  return new Uint8Array(toArrayBuffer(ptr as Pointer, 0, byteLength));
}

/** A private copy of a tensor's elements. */
export function copyOf(view: TensorView): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytesOf(view));
}

/** The same tensor with {@link copyOf} its elements. */
export function copied(view: TensorView): TensorView {
  return { ...view, data: copyOf(view), ptr: 0 };
}

/**
 * Bytes, aligned as those of {@link copyOf} are, seen as elements: bfloat16 as raw bits, bool as 0/1, complex as pairs.
 */
export function elementsOf(bytes: Uint8Array<ArrayBufferLike>, dtype: DType): TensorStorage {
  return tensor(bytes, { dtype }).data;
}
