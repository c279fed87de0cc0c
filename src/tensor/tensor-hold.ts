import type { Stream } from "./device.ts";
import type { TensorView } from "./tensor-view.ts";

/**
 * Key of an optional method of a foreign tensor: it keeps the memory from being freed until the function that it returns
 * is called. Ops call it when they are submitted, with the stream that they start after, and that function when native
 * code has let go of the memory. It throws if the memory is gone.
 */
export const TENSOR_HOLD: unique symbol = Symbol.for("c10d.tensor.hold");

/** What an op holds until it no longer uses its tensors. */
export type Hold = () => void;

/**
 * Holds the memory of tensors that can be held.
 * @throws what a tensor throws whose memory is gone; nothing is held then.
 */
export function holdTensors(...lists: readonly (readonly TensorView[])[]): readonly Hold[] {
  return holdTensorsIn(undefined, ...lists);
}

/**
 * The same, for work in a stream.
 * @param stream The work that uses the tensors is put into it, or starts after it.
 * @throws what a tensor throws whose memory is gone; nothing is held then.
 */
export function holdTensorsIn(
  stream: Stream | undefined,
  ...lists: readonly (readonly TensorView[])[]
): readonly Hold[] {
  const holds: Hold[] = [];
  try {
    for (const views of lists) for (const { data, source } of views) if (data === undefined) add(holds, source, stream);
  } catch (error) {
    releaseHolds(holds);
    throw error;
  }
  return holds;
}

function add(holds: Hold[], source: unknown, stream: Stream | undefined): void {
  const hold: unknown = (source as { readonly [TENSOR_HOLD]?: unknown } | null | undefined)?.[TENSOR_HOLD];
  if (typeof hold !== "function") return;
  const release: unknown = Reflect.apply(hold, source, [stream]);
  if (typeof release === "function") holds.push(release as Hold);
}

/** Ends holds. */
export function releaseHolds(holds: readonly Hold[]): void {
  for (const release of holds) release();
}
