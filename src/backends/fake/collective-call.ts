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

/** A collective as the ranks compare it. */
export interface NumberedCall extends CollectiveCall {
  /** Place among the calls of its rank, from 1, those that were refused among them. */
  readonly number: number;
}
