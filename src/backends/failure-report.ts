import { timeoutMs } from "../errors/index.ts";
import type { Store } from "../store/store.ts";

/** What one rank knows of the failure of its group. */
export interface FailureReport {
  readonly rank: number;
  readonly op: string;
  readonly seq: number;
  /** Text of the failure as this rank sees it. */
  readonly text: string;
  /** Rank that this one saw fail, or -1. */
  readonly peer: number;
}

/** What the ranks agree on after a failure. */
export interface FailureVerdict {
  /** Ranks that caused it: those that no longer answer, else the one that the first report names. */
  readonly culprits: readonly number[];
  /** Ranks that reported in time. */
  readonly reports: readonly FailureReport[];
  /** The report that came first, of any rank. */
  readonly first: FailureReport;
}

/** How long a rank waits for the reports of the others. */
const REPORT_LIMIT_MS = 400;
const decoder = new TextDecoder();

/**
 * Publishes this rank's view of a failure under `failure/` and reads the others', briefly, so that all ranks name the
 * same culprits. Never rejects: where the store is gone, the own view has to do.
 */
export async function consultOnFailure(store: Store, size: number, own: FailureReport): Promise<FailureVerdict> {
  const limits = { timeout: timeoutMs(undefined, REPORT_LIMIT_MS) };
  const encoded = JSON.stringify(own);
  let first = own;
  const reports: FailureReport[] = [own];
  try {
    const [winner] = await Promise.all([
      store.compareSet("failure/first", "", encoded, limits),
      store.set(`failure/${own.rank}`, encoded, limits),
    ]);
    first = parseReport(winner) ?? own;
    const others = Array.from({ length: size }, (_, rank) => rank).filter((rank) => rank !== own.rank);
    const answers = await Promise.allSettled(others.map((rank) => store.get(`failure/${rank}`, limits)));
    for (const answer of answers) {
      const report = answer.status === "fulfilled" ? parseReport(answer.value) : undefined;
      if (report) reports.push(report);
    }
  } catch {
    // The store went with the rank that hosted it.
    return { culprits: own.peer >= 0 ? [own.peer] : [], reports, first: own };
  }
  return { culprits: culpritsOf(size, reports, first), reports, first };
}

function culpritsOf(size: number, reports: readonly FailureReport[], first: FailureReport): number[] {
  const reported = new Set(reports.map((report) => report.rank));
  const silent = Array.from({ length: size }, (_, rank) => rank).filter((rank) => !reported.has(rank));
  // A rank that is slow to report is only blamed if somebody saw its connection break or nobody is blamed otherwise.
  const seen = silent.filter((rank) => reports.some((report) => report.peer === rank));
  if (seen.length > 0) return seen;
  if (silent.length > 0) return silent;
  return first.peer >= 0 ? [first.peer] : [];
}

function parseReport(bytes: Uint8Array): FailureReport | undefined {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes));
    return isReport(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isReport(value: unknown): value is FailureReport {
  if (typeof value !== "object" || value === null) return false;
  const report = value as Partial<Record<keyof FailureReport, unknown>>;
  return (
    Number.isInteger(report.rank) &&
    Number.isInteger(report.peer) &&
    Number.isInteger(report.seq) &&
    typeof report.op === "string" &&
    typeof report.text === "string"
  );
}
