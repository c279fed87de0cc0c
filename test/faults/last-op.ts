import type { ReportedError } from "bun-c10d/testing";

/** Why a rank does not call an op that the others wait in. */
export type Trouble =
  | "not calling"
  | "looping"
  | "in another op"
  | "sending"
  | "stopped"
  | "killed"
  | "ended"
  | "monitored";

export interface LastOpArgs {
  readonly backend: string;
  readonly mode: "await" | "wait";
  readonly troubles: readonly Trouble[];
  readonly culprit: number;
}

/** What another rank got. */
export interface LastOpResult {
  readonly trouble: Trouble;
  readonly group: string;
  /** Process of the rank at fault. */
  readonly pid: number;
  readonly error: ReportedError | undefined;
  /** Error of the wait that ended before the op did. */
  readonly late: ReportedError | undefined;
}
