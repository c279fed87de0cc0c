import { memoryKindOf } from "./memory.ts";
import type { TensorView } from "./tensor-view.ts";

/**
 * Bytes of all tensors of an op up to which a backend works on copies, so that nothing can take the memory away from
 * under it; docs/performance.md has what that costs. Larger tensors are used where they are.
 */
export const STAGED_BYTES = 4096;

/** What each copy is aligned to. */
export const STAGED_ALIGNMENT = 16;

/** Room that copies of these tensors take, one after the other. */
export function stagedBytes(tensors: readonly TensorView[]): number {
  let total = 0;
  for (const { byteLength } of tensors) total += Math.ceil(byteLength / STAGED_ALIGNMENT) * STAGED_ALIGNMENT;
  return total;
}

/**
 * Whether detaching its buffer takes this tensor's memory away from an op that works on it where it is. Shared memory
 * cannot be detached; what is resizable is always copied; foreign memory is the affair of its owner.
 */
export function isDetachable({ data, byteLength }: TensorView): boolean {
  return data !== undefined && byteLength > 0 && memoryKindOf(data) === "fixed";
}
