import type { OpCall } from "../../collectives/op-call.ts";
import type { ReduceOp } from "../../collectives/reduce-op.ts";
import type { Work } from "../../work/index.ts";

/** What a method of `MethodBackend` gets beside the tensors: the call, and what there is to know of its turn. */
export interface MethodCall extends OpCall {
  /**
   * Place among the collectives of this rank, from 1, those that were refused included: the same on all ranks that call the
   * same. -1 for messages.
   */
  readonly turn: number;
  /** Is aborted when the op is over: its time has run out, or the group has failed or is being closed. */
  readonly signal: AbortSignal;
}

/** {@link MethodCall} of an op that reduces. */
export interface ReducingCall extends MethodCall {
  /** How the elements of all ranks become one; with its factor, if it has one. */
  readonly reduceOp: ReduceOp;
}

/** What a method may return: nothing once it is done, a promise of that, or a Work of its own. */
// biome-ignore lint/suspicious/noConfusingVoidType: what a method without `return` gives
export type MethodResult = void | PromiseLike<unknown> | Work<unknown>;
