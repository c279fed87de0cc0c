import type { ReportedError } from "bun-c10d/testing";

/** What a rank says of a program. */
export interface RankReport {
  /** Index of the program in its job. */
  readonly index: number;
  /** The error that ended the program on this rank. */
  readonly error: ReportedError | undefined;
  readonly ms: number;
}
