import type { OpCall, OpType } from "../collectives/index.ts";

/**
 * What the recorder asks the Work of an op that is under way. It may be one of another copy of this package, of which only what is
 * public can be read.
 */
export interface RecordedWork {
  readonly opType: OpType;
  /** -1 until it is known. */
  readonly seq: number;
}

/** What an op of several steps has of a call; that of objects is in no tensor of the user's. */
export interface RecordedSteps extends Pick<OpCall, "peer" | "root" | "tag" | "timeoutMs"> {
  readonly op?: undefined;
  readonly inputs: readonly [];
  readonly outputs: readonly [];
}

/** What is recorded of a call. */
export type RecordedCall = OpCall | RecordedSteps;
