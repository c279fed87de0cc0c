import { memoryKindOf } from "./memory.ts";
import type { TensorView } from "./tensor-view.ts";

/**
 * Total size in bytes of the tensors of an op up to which a backend works on copies, which cannot be detached during
 * the op; docs/performance.md has the cost. Larger tensors are used in place.
 */
export const STAGED_BYTES = 4096;

/** Alignment of each copy, in bytes. */
export const STAGED_ALIGNMENT = 16;

/** Number of bytes that copies of these tensors take, one after the other. */
export function stagedBytes(tensors: readonly TensorView[]): number {
  let total = 0;
  for (const { byteLength } of tensors) total += Math.ceil(byteLength / STAGED_ALIGNMENT) * STAGED_ALIGNMENT;
  return total;
}

/**
 * Whether an op that uses this tensor in place loses its memory when the buffer is detached. Shared memory cannot be
 * detached; resizable memory is always copied; foreign memory is its owner's responsibility.
 */
export function isDetachable({ data, byteLength }: TensorView): boolean {
  return data !== undefined && byteLength > 0 && memoryKindOf(data) === "fixed";
}
