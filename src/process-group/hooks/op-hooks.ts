import type { OpType, ReduceOp } from "../../collectives/index.ts";
import type { CallSite, DistError } from "../../errors/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import type { Work, WorkInfo } from "../../work/index.ts";

/** An op that is about to be submitted. Ranks are ranks in the group. c10d: `PreHookArgs`. */
export interface PreHookEvent {
  /** Number of the call in this process; `post` and the completion hook get the same one. */
  readonly opId: number;
  /** Method of `ProcessGroup` that was called, e.g. `allReduce`. */
  readonly op: string;
  readonly opType: OpType;
  /** Name of the group; "0" is the default group. */
  readonly group: string;
  /** Rank in the group. */
  readonly rank: number;
  /** Global rank of each rank of the group. */
  readonly globalRanks: readonly number[];
  /** Tensors that the op reads. Empty for in-place ops, ops on objects or sparse tensors, and batches. */
  readonly inputs: readonly TensorView[];
  /** Tensors that the op writes. */
  readonly outputs: readonly TensorView[];
  readonly reduceOp: ReduceOp | undefined;
  /** -1 for ops without a root. */
  readonly root: number;
  /** -1 except for messages; also -1 for a recv from any rank. */
  readonly peer: number;
  readonly tag: number;
  /** Time-out in milliseconds; Infinity for none. */
  readonly timeoutMs: number;
  /** Where the op was called: `lineOf(callSite)` formats it. */
  readonly callSite: CallSite | undefined;
}

/** An op that has been submitted; it may have ended already. c10d: `PostHookArgs`. */
export interface PostHookEvent {
  readonly opId: number;
  readonly op: string;
  readonly opType: OpType;
  readonly group: string;
  readonly work: Work<unknown>;
}

/** A group that has failed, or is being aborted. */
export interface AbortHookEvent {
  readonly group: string;
  readonly rank: number;
  readonly reason: string;
  /** The error of the op that failed the group, if one did. */
  readonly error: DistError | undefined;
}

/** An op that has ended, for completion hooks. */
export interface CompletedOp {
  readonly opId: number;
  readonly op: string;
  readonly group: string;
  /** The error of a failed op. */
  readonly error: DistError | undefined;
}

/**
 * Functions that a process group calls for each op. They run on the calling thread, so they should be short; what they
 * throw, or reject with, is logged and has no effect on the op. Ops that a hook starts before it returns, or before its
 * first `await`, have no hooks.
 *
 * c10d: the hooks of `Hooks.hpp`.
 */
export interface OpHooks {
  /** Called before an op is submitted, once its arguments have been found valid. */
  readonly pre?: (event: PreHookEvent) => unknown;
  /** Called after an op has been submitted. */
  readonly post?: (event: PostHookEvent) => unknown;
  /** Called once, when the group fails or is aborted, before the ops in flight are. */
  readonly abort?: (event: AbortHookEvent) => unknown;
}

/** Called for each op that has ended, successfully or not, with its timing. */
export type CompletionHook = (info: WorkInfo, op: CompletedOp) => unknown;
