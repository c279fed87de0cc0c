import type { OpCall, OpType } from "../collectives/index.ts";

/**
 * What the recorder reads from the Work of a pending op. It may belong to another copy of this package, so only public
 * members can be read.
 */
export interface RecordedWork {
  readonly opType: OpType;
  /** -1 until it is known. */
  readonly seq: number;
}

/** The call fields of an op of several steps. It has no tensors: the user passes objects. */
export interface RecordedSteps extends Pick<OpCall, "peer" | "root" | "tag" | "timeoutMs"> {
  readonly callSite?: OpCall["callSite"];
  readonly op?: undefined;
  readonly inputs: readonly [];
  readonly outputs: readonly [];
}

/** What is recorded of a call. */
export type RecordedCall = OpCall | RecordedSteps;
