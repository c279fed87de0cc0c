import type { ReportedError } from "bun-c10d/testing";

/** What a rank saw in a cell. */
export interface RankReport {
  /** Index of the cell in its job. */
  readonly index: number;
  /** Name of the group. */
  readonly group: string;
  /** How each of the rank's steps ended: its error, if any. */
  readonly ends: readonly (ReportedError | undefined)[];
  /** From the start of the steps to the end of the last one. */
  readonly ms: number;
  /** Error of an immediate next op on the group; absent if the rank made no call there. */
  readonly next: ReportedError | undefined;
  /** The same, when the ranks have had time to agree. */
  readonly later: ReportedError | undefined;
  readonly state: string;
  /** Problems with earlier ops. */
  readonly problems: readonly string[];
}
