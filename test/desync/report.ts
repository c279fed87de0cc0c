import type { ReportedError } from "bun-c10d/testing";

/** What a rank has seen in a cell. */
export interface RankReport {
  /** Of the cell in its job. */
  readonly index: number;
  /** Name of the group. */
  readonly group: string;
  /** How each of the rank's steps ended: its error, if any. */
  readonly ends: readonly (ReportedError | undefined)[];
  /** From the start of the steps to the end of the last one. */
  readonly ms: number;
  /** Error of the next op on the group, at once; nothing where the rank has made no call there. */
  readonly next: ReportedError | undefined;
  /** The same, when the ranks have had the time to agree. */
  readonly later: ReportedError | undefined;
  readonly state: string;
  /** What was wrong with earlier ops. */
  readonly problems: readonly string[];
}
