import type { ReportedError } from "bun-c10d/testing";

/** The report of a rank that survived the fault of another one. */
export interface Survivor {
  readonly rank: number;
  /** Date.now() when the op that failed was submitted, and when its error arrived. */
  readonly submitted: number;
  readonly failed: number;
  readonly error: ReportedError;
  /** Error of the next op on the failed group, and the milliseconds it took. */
  readonly next: ReportedError | undefined;
  readonly nextMs: number;
  /** `ok`, or why the survivors could not continue in their own group. */
  readonly regroup: string;
  /** Error of an op on the failed group once the ranks have had time to agree on the culprit. */
  readonly later: ReportedError | undefined;
  /** What the emulators of CUDA and NCCL say of calls that no correct program makes. */
  readonly misuse: string | undefined;
  /** Duration of destroyProcessGroup() in milliseconds. */
  readonly destroyMs: number;
}
