/**
 * What the launcher sends to the page: a text in JSON at each look at the ranks. Times are in milliseconds since the
 * epoch, by the clock of the launcher's host.
 */
export interface Snapshot {
  readonly at: number;
  readonly job: JobView;
  readonly ranks: readonly RankView[];
  readonly problems: readonly ProblemView[];
  /** Ops that are new or have changed since the snapshot before. */
  readonly ops: readonly OpView[];
  /** Whether ops before these are missing. `ops` has all that were pending then: what else is pending has ended. */
  readonly hasGap: boolean;
  /** Number of ops so far that began and ended between two looks, or were too many to send. */
  readonly unseen: number;
  /** What the launcher has printed of the attempts that have failed. */
  readonly report: string;
  /** How the job ended. It is then the last snapshot. */
  readonly end: EndView | undefined;
}

export interface JobView {
  readonly id: string;
  readonly program: string;
  /** How often it has been restarted. */
  readonly attempt: number;
  readonly worldSize: number;
  /** Number of this node, and of all. */
  readonly node: number;
  readonly nnodes: number;
  readonly startedAt: number;
  /** Of all ranks, by the second. */
  readonly opsPerSecond: string;
  readonly bytesPerSecond: string;
}

/** What stands out in a rank. */
export type RankTone = "late" | "failed" | "waiting" | "ended" | "calm";

export interface RankView {
  readonly key: string;
  readonly rank: number;
  readonly host: string;
  readonly pid: string;
  readonly tone: RankTone;
  readonly state: string;
  readonly op: string;
  /** For how long it has been in its op, or since when it has been in none. */
  readonly since: string;
  readonly opsPerSecond: string;
  readonly bytesPerSecond: string;
  readonly callSite: string;
}

export type ProblemKind = "missing" | "slow" | "desync" | "failed" | "ended";

export interface ProblemView {
  /** The same as long as it is the same problem. */
  readonly id: string;
  readonly kind: ProblemKind;
  readonly title: string;
  /** Lines. */
  readonly detail: string;
  /** Global ranks that it is about. */
  readonly ranks: readonly number[];
  readonly group: string | undefined;
}

export interface OpView {
  readonly id: string;
  readonly rank: number;
  readonly group: string;
  readonly op: string;
  /** Name, number, peer and group. */
  readonly text: string;
  readonly began: number;
  /** `undefined` while it is pending. */
  readonly ended: number | undefined;
  readonly hasFailed: boolean;
  /** Whether its process has ended before it; `ended` is when that was seen. */
  readonly wasCut: boolean;
  readonly callSite: string | undefined;
}

export interface EndView {
  readonly exitCode: number;
}
