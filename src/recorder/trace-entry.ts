import type { OpType, ReduceOp } from "../collectives/index.ts";
import type { Frame } from "../errors/index.ts";
import type { DType } from "../tensor/index.ts";

/** What is recorded of the group of an op. */
export interface RecordedGroup {
  /** "0" is the default group. */
  readonly name: string;
  readonly description: string;
  /** Rank in the group. */
  readonly rank: number;
  /** Global rank of each rank of the group. */
  readonly globalRanks: readonly number[];
}

/** What is recorded of a tensor. */
export interface RecordedTensor {
  readonly dtype: DType;
  /** Number of elements. */
  readonly length: number;
}

/** An op that this process called. Ranks are ranks in the group. c10d: an entry of the flight recorder. */
export interface TraceEntry {
  /** Counts the ops of all groups that the recorder has seen, from 0. */
  readonly id: number;
  readonly group: RecordedGroup;
  /** Method of `ProcessGroup` that was called, e.g. `allReduce`. */
  readonly op: string;
  readonly opType: OpType;
  /** Sequence number in the group; -1 if it has none, or none yet. */
  readonly seq: number;
  /** Whether it is a message rather than a collective. */
  readonly isMessage: boolean;
  /** For ops that reduce. */
  readonly reduceOp: ReduceOp | undefined;
  /** Peer of a message; for a recv from any rank, the source once it has ended; else -1. */
  readonly peer: number;
  /** Root of an op that has one, else -1. */
  readonly root: number;
  /** Tag of a message, else 0. */
  readonly tag: number;
  /** Tensors read; for in-place ops the same as `outputs`. Empty for ops on objects or sparse tensors, and batches. */
  readonly inputs: readonly RecordedTensor[];
  /** Tensors written. */
  readonly outputs: readonly RecordedTensor[];
  /**
   * `scheduled` while it waits for its turn, `started` while it is with the library, then `completed` or `failed`. A
   * backend without a library has no turns: its ops have started.
   */
  readonly state: "scheduled" | "started" | "completed" | "failed";
  /** Message of the error of a failed op. */
  readonly error: string | undefined;
  /** Time-out of the op in milliseconds; Infinity for none. */
  readonly timeoutMs: number;
  /** When it was called, in milliseconds since the Unix epoch, with fractions. */
  readonly timeCreated: number;
  /** When the library got it; known once it has ended, with `group.enableCollectivesTiming()`. */
  readonly timeStarted: number | undefined;
  /** When it ended; `undefined` before. With `group.enableCollectivesTiming()`, when the library finished it. */
  readonly timeFinished: number | undefined;
  /** Where the user called it, as `file:line:column`; `undefined` with `C10D_CALL_SITES=0`. */
  readonly callSite: string | undefined;
  /** The same with the functions that led there, the innermost first. */
  readonly frames: readonly Frame[];
}
