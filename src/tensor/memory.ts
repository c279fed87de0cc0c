import { isArrayBuffer, isDataView, isSharedArrayBuffer } from "node:util/types";
import type { TensorStorage } from "./tensor.ts";

// A subclass or an own property may override `byteLength`, `byteOffset` or `buffer`, and memory of another realm fails
// `instanceof`. Native code gets only what the getters of the engine return, as they are at load.
const typedArray: object = Object.getPrototypeOf(Uint8Array.prototype);
const arrayByteLength = getter<number>(typedArray, "byteLength");
const arrayByteOffset = getter<number>(typedArray, "byteOffset");
const arrayBuffer = getter<ArrayBufferLike>(typedArray, "buffer");
const arrayTag = getter<string | undefined>(typedArray, Symbol.toStringTag);
const dataViewByteLength = getter<number>(DataView.prototype, "byteLength");
const dataViewByteOffset = getter<number>(DataView.prototype, "byteOffset");
const dataViewBuffer = getter<ArrayBufferLike>(DataView.prototype, "buffer");
const bufferByteLength = getter<number>(ArrayBuffer.prototype, "byteLength");
const bufferDetached = getter<boolean>(ArrayBuffer.prototype, "detached");
const bufferResizable = getter<boolean>(ArrayBuffer.prototype, "resizable");
const sharedByteLength = getter<number>(SharedArrayBuffer.prototype, "byteLength");
const { set } = Uint8Array.prototype;
const nothing: readonly number[] = [];

/** Contiguous bytes of a buffer. */
export interface ByteRange {
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Name of the type of a TypedArray, such as `Float32Array`, also of a subclass or another realm; else undefined. */
export function typedArrayName(value: unknown): string | undefined {
  return arrayTag.call(value);
}

/** Length of a TypedArray in bytes; 0 when its memory is detached. */
export function byteLengthOf(view: TensorStorage): number {
  return arrayByteLength.call(view);
}

/** The buffer of a TypedArray. Reading it also fixes the address of a small array's memory. */
export function bufferOf(view: TensorStorage): ArrayBufferLike {
  return arrayBuffer.call(view);
}

/** Where the bytes of a TypedArray lie. */
export function rangeOf(view: TensorStorage): ByteRange {
  return {
    buffer: arrayBuffer.call(view),
    byteOffset: arrayByteOffset.call(view),
    byteLength: arrayByteLength.call(view),
  };
}

/** The bytes of a TypedArray, in the same memory; only the first `length` if that is given. */
export function bytesOf(view: TensorStorage, length = byteLengthOf(view)): Uint8Array {
  return new Uint8Array(arrayBuffer.call(view), arrayByteOffset.call(view), length);
}

/** The bytes of a TypedArray, DataView, ArrayBuffer or SharedArrayBuffer; undefined for any other value. */
export function memoryOf(value: unknown): ByteRange | undefined {
  if (typedArrayName(value) !== undefined) return rangeOf(value as TensorStorage);
  if (isArrayBuffer(value)) return { buffer: value, byteOffset: 0, byteLength: bufferByteLength.call(value) };
  if (isSharedArrayBuffer(value)) return { buffer: value, byteOffset: 0, byteLength: sharedByteLength.call(value) };
  if (!isDataView(value)) return undefined;
  const buffer = dataViewBuffer.call(value);
  // A DataView whose memory is detached throws for everything else.
  if (isDetachedBuffer(buffer)) return { buffer, byteOffset: 0, byteLength: 0 };
  return { buffer, byteOffset: dataViewByteOffset.call(value), byteLength: dataViewByteLength.call(value) };
}

/** Whether a buffer was transferred or posted elsewhere. Shared memory cannot be. */
export function isDetachedBuffer(buffer: ArrayBufferLike): boolean {
  return isArrayBuffer(buffer) && bufferDetached.call(buffer);
}

/** Whether a TypedArray has lost its memory: its buffer was detached, or resized to less than the view needs. */
export function isDetached(view: TensorStorage): boolean {
  try {
    // Only methods distinguish this from a view that was created empty. Not `keys`, whose
    // check is optimised away if its result is not used.
    set.call(view as Uint8Array, nothing);
    return false;
  } catch {
    return true;
  }
}

/**
 * What can happen to the memory of a TypedArray: `fixed` can be detached, `resizable` can also release its pages,
 * `shared` never moves and only grows.
 */
export type MemoryKind = "fixed" | "resizable" | "shared";

/** The kind of memory of a TypedArray. Fixes its address, as {@link bufferOf} does. */
export function memoryKindOf(view: TensorStorage): MemoryKind {
  const buffer = arrayBuffer.call(view);
  // The prototype is the fast check for almost all; a forged one fails in the getter.
  if (Object.getPrototypeOf(buffer) === ArrayBuffer.prototype || isArrayBuffer(buffer)) {
    return bufferResizable.call(buffer) ? "resizable" : "fixed";
  }
  return "shared";
}

/** Whether a TypedArray that had this many bytes still has them; it may have grown since. */
export function isWhole(view: TensorStorage, byteLength: number): boolean {
  return arrayByteLength.call(view) >= byteLength;
}

function getter<T>(of: object, name: PropertyKey): (this: unknown) => T {
  const get = Object.getOwnPropertyDescriptor(of, name)?.get;
  if (get === undefined) throw new TypeError(`this JavaScript engine has no getter ${String(name)}`);
  return get;
}
