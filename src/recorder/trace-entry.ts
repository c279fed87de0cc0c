import type { OpType } from "../collectives/index.ts";
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

/** An op that a process has called. Ranks are ranks in the group. c10d: an entry of the flight recorder. */
export interface TraceEntry {
  /** Counts the ops of all groups that the recorder has seen, from 0. */
  readonly id: number;
  readonly group: RecordedGroup;
  /** Method of `ProcessGroup` by which it was called, e.g. `allReduce`. */
  readonly op: string;
  readonly opType: OpType;
  /** Sequence number in the group; -1 where it has none, or none yet. */
  readonly seq: number;
  /** A message, not a collective. */
  readonly isMessage: boolean;
  /** The other side of a message; of a recv from any rank the one that it came from, once it has ended; -1 elsewhere. */
  readonly peer: number;
  /** Of ops that have one, else -1. */
  readonly root: number;
  /** Of messages, else 0. */
  readonly tag: number;
  /** What is read; of ops in place the same as `outputs`. Empty for ops of objects and of sparse tensors, and for whole batches. */
  readonly inputs: readonly RecordedTensor[];
  /** What is written. */
  readonly outputs: readonly RecordedTensor[];
  readonly state: "scheduled" | "completed" | "failed";
  /** Message of the error of an op that has failed. */
  readonly error: string | undefined;
  /** Limit of the op in milliseconds; Infinity for none. */
  readonly timeoutMs: number;
  /** When it was called, in milliseconds since 1970 with fractions. */
  readonly timeCreated: number;
  /** When it has ended; `undefined` before. */
  readonly timeFinished: number | undefined;
}
