import type { ReportedError } from "bun-c10d/testing";

/** What a rank reports that has lived through the fault of another one. */
export interface Survivor {
  readonly rank: number;
  /** Date.now() when the op that failed was submitted, and when its error was there. */
  readonly submitted: number;
  readonly failed: number;
  readonly error: ReportedError;
  /** Error of the next op on the failed group, and the milliseconds it took. */
  readonly next: ReportedError | undefined;
  readonly nextMs: number;
  /** `ok`, or why the survivors could not go on in a group of their own. */
  readonly regroup: string;
  /** Error of an op on the failed group when the ranks have had time to agree on the culprit. */
  readonly later: ReportedError | undefined;
  /** Milliseconds that destroyProcessGroup() took. */
  readonly destroyMs: number;
}
