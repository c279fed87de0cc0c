import type { OpCall } from "../../collectives/op-call.ts";
import type { ReduceOp } from "../../collectives/reduce-op.ts";
import type { Work } from "../../work/index.ts";

/** What a method of `MethodBackend` receives besides the tensors: the call, its turn and its signal. */
export interface MethodCall extends OpCall {
  /**
   * Position among the collectives of this rank, from 1, including refused ones: the same on all ranks that make the
   * same calls. -1 for messages.
   */
  readonly turn: number;
  /** Aborted when the op is over: its time-out has expired, or the group has failed or is being closed. */
  readonly signal: AbortSignal;
}

/** {@link MethodCall} of an op that reduces. */
export interface ReducingCall extends MethodCall {
  /** How the elements of all ranks are combined; with its factor, if it has one. */
  readonly reduceOp: ReduceOp;
}

/** What a method may return: nothing once it is done, a promise of that, or its own Work. */
// biome-ignore lint/suspicious/noConfusingVoidType: what a method without `return` returns
export type MethodResult = void | PromiseLike<unknown> | Work<unknown>;
