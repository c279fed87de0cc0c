import { ptr } from "bun:ffi";
import { bufferOf, memoryKindOf, rangeOf } from "./memory.ts";
import type { TensorView } from "./tensor-view.ts";

/** Where the bytes of a tensor lie: from `start` up to, not including, `end` in one space. */
export interface Extent {
  /** A buffer, or {@link ADDRESSES}: extents in different spaces do not overlap. */
  readonly space: object;
  readonly start: number;
  readonly end: number;
}

/** The space of all addresses of the process. */
const ADDRESSES: object = Object.freeze({});

/**
 * Where a tensor lies.
 *
 * @param absolute Whether to use addresses, so that foreign memory can be compared too. Shared memory always uses them,
 *   since two SharedArrayBuffers may be the same memory.
 */
export function extentOf({ data, ptr: address, byteLength }: TensorView, absolute: boolean): Extent {
  if (data === undefined) return { space: ADDRESSES, start: address, end: address + byteLength };
  if (byteLength > 0 && (absolute || memoryKindOf(data) === "shared")) {
    void bufferOf(data); // From now on its address is fixed.
    const start: number = ptr(data);
    return { space: ADDRESSES, start, end: start + byteLength };
  }
  const { buffer, byteOffset } = rangeOf(data);
  return { space: buffer, start: byteOffset, end: byteOffset + byteLength };
}

/** Whether two extents have a byte in common. */
export function haveCommonBytes(a: Extent, b: Extent): boolean {
  return a.space === b.space && a.start < b.end && b.start < a.end;
}

/** Whether two tensors have a byte in common. */
export function overlaps(a: TensorView, b: TensorView): boolean {
  if (a.byteLength === 0 || b.byteLength === 0) return false;
  const absolute = a.data === undefined || b.data === undefined;
  return haveCommonBytes(extentOf(a, absolute), extentOf(b, absolute));
}
