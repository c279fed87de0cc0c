import type { OpType } from "../../collectives/op-type.ts";
import type { ReduceOp } from "../../collectives/reduce-op.ts";
import type { OpName } from "../../registry/index.ts";
import type { TensorView } from "../../tensor/index.ts";

export type CollectiveName = Exclude<OpName, "send" | "recv" | "allReduceSparse">;

/** One rank's part in a collective. An op in place has its tensors in both lists. */
export interface CollectiveCall {
  readonly name: CollectiveName;
  readonly opType: OpType;
  readonly inputs: readonly TensorView[];
  readonly outputs: readonly TensorView[];
  readonly reduceOp?: ReduceOp;
  readonly root?: number;
  /** Elements for and from each rank; empty for equal parts. */
  readonly inputSplits?: readonly number[];
  readonly outputSplits?: readonly number[];
}

/**
 * A collective in words, e.g. `reduce(float32[3], SUM, root 0)`: everything that has to be the same on all ranks. Sizes
 * of an all-to-all may differ.
 */
export function signatureOf({ name, inputs, outputs, reduceOp, root }: CollectiveCall): string {
  // Of gather and scatter, only the root has the list.
  const tensors = name === "scatter" ? outputs : inputs;
  const sizes = name.startsWith("allToAll")
    ? tensors.slice(0, 1).map(({ dtype }) => dtype)
    : tensors.map(({ dtype, length }) => `${dtype}[${length}]`);
  const parts = [...sizes, reduceOp?.toString(), root === undefined ? undefined : `root ${root}`];
  return `${name}(${parts.filter((part) => part !== undefined).join(", ")})`;
}
