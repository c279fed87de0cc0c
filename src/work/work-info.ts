import type { OpType } from "../collectives/op-type.ts";

/** Type, number and timing of an op. c10d: `WorkInfo`. */
export interface WorkInfo {
  readonly opType: OpType;
  /** Sequence number in the group; -1 if the op was refused before it got one. */
  readonly seq: number;
  /** Wall-clock time of the submission; with `group.enableCollectivesTiming()`, when the library got the op. */
  readonly timeStarted: Date;
  /** Wall-clock time of the end, by the same clock; undefined while the op is pending. */
  readonly timeFinished: Date | undefined;
  /** Milliseconds from submission to end, or to now; with `group.enableCollectivesTiming()`, those in native code. */
  readonly activeDuration: number;
}
