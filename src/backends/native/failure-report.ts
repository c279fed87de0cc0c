import type { Store, StoreCallOptions } from "../../store/store.ts";

/** What one rank knows of the failure of its group. */
export interface FailureReport {
  readonly rank: number;
  readonly op: string;
  readonly seq: number;
  /** How many collectives the rank has called: of several under way, ranks need not report the same one. */
  readonly called: number;
  readonly kind: FailureKind;
  /** Text of the failure as this rank sees it. */
  readonly text: string;
  /** Rank that this one waited for or saw leave, or -1. */
  readonly peer: number;
  /** Ranks that surely caused it; of `desync` the two whose calls differ. */
  readonly ranks: readonly number[];
}

/**
 * `lost` is a connection that broke, which may be the consequence of any other kind on another rank. `desync` is two ranks
 * that made different calls: the text names both, and which of them is wrong cannot be known.
 */
export type FailureKind = "timeout" | "lost" | "aborted" | "desync" | "other";

/** What the ranks agree on after a failure. */
export interface FailureVerdict {
  /** Ranks that caused it; empty where that cannot be known. */
  readonly culprits: readonly number[];
  /** The report that all the others follow from. */
  readonly cause: FailureReport;
  /** Ranks that reported in time. */
  readonly reports: readonly FailureReport[];
}

/** {@link FailureReport.op} of a rank that has given up making the group. */
export const CREATION = "creation";

/** How long a rank waits for the reports of the others. */
const REPORT_LIMIT_MS = 400;
/** How long for the store to take its own report, and then its verdict: without them it may name others than they do. */
const STORE_LIMIT_MS = 1_000;
const FIRST_KEY = "failure/first";
const VERDICT_KEY = "failure/verdict";
const decoder = new TextDecoder();
const reportKey = (rank: number): string => `failure/${rank}`;

/** The first report of a failure of the group, if there is one by now. Rejects with the store's error. */
export async function firstFailure(store: Store, limitMs: number): Promise<FailureReport | undefined> {
  const limits = { timeout: limitMs };
  return (await store.check([FIRST_KEY], limits)) ? parseReport(await store.get(FIRST_KEY, limits)) : undefined;
}

/** Publishes what this rank knows of a failure where nobody needs to be asked. Never rejects. */
export async function reportFailure(store: Store, own: FailureReport): Promise<void> {
  await publish(store, own, { timeout: REPORT_LIMIT_MS }).catch(() => {});
}

/** Gives the report that was published first. */
async function publish(store: Store, own: FailureReport, limits: StoreCallOptions): Promise<FailureReport | undefined> {
  const [first] = await Promise.all([
    store.compareSet(FIRST_KEY, "", JSON.stringify(own), limits),
    store.set(reportKey(own.rank), JSON.stringify(own), limits),
  ]);
  return parseReport(first);
}

/**
 * Publishes this rank's view of a failure under `failure/` and reads the others', briefly. The first rank to come to a
 * verdict publishes that too, and all adopt it, so that they name the same culprits. Never rejects: where the store is
 * gone, the own view has to do.
 * @param limitMs Of each step, where the caller has no more time.
 */
export async function consultOnFailure(
  store: Store,
  size: number,
  own: FailureReport,
  limitMs?: number,
): Promise<FailureVerdict> {
  const alone: FailureVerdict = { culprits: blame(size, [own], own, false), cause: own, reports: [own] };
  const enough = new AbortController();
  const limits = { timeout: limitMs ?? REPORT_LIMIT_MS, signal: enough.signal };
  // What was aborted has to end within a second.
  const storeLimitMs = limitMs ?? (own.kind === "aborted" ? REPORT_LIMIT_MS : STORE_LIMIT_MS);
  try {
    const first = await publish(store, own, { timeout: storeLimitMs });
    const verdict = await Promise.any([
      store.get(VERDICT_KEY, limits).then(requireVerdict),
      collectReports(store, size, own, first ?? own, limits),
    ]);
    enough.abort();
    const agreed = await store.compareSet(VERDICT_KEY, "", JSON.stringify(verdict), { timeout: storeLimitMs });
    return parseVerdict(agreed) ?? verdict;
  } catch {
    // The store went with the rank that hosted it.
    return alone;
  } finally {
    enough.abort();
  }
}

async function collectReports(
  store: Store,
  size: number,
  own: FailureReport,
  first: FailureReport,
  limits: StoreCallOptions,
): Promise<FailureVerdict> {
  // Who ends the group itself has nobody else to ask for the cause.
  const others = own.kind === "aborted" ? [] : ranksOf(size).filter((rank) => rank !== own.rank);
  const answers = await Promise.allSettled(others.map((rank) => store.get(reportKey(rank), limits)));
  const reports = [own];
  for (const answer of answers) {
    const report = answer.status === "fulfilled" ? parseReport(answer.value) : undefined;
    if (report) reports.push(report);
  }
  if (reports.every(({ rank }) => rank !== first.rank)) reports.push(first);
  // A broken connection explains nothing where another rank knows better.
  const cause = bestInformed([first, ...reports].find((report) => report.kind !== "lost") ?? first, reports);
  return { culprits: blame(size, reports, cause, true), cause, reports };
}

/** Of time-outs in the same op that of a rank which knows who was missing: rank 0 of a monitored barrier. */
function bestInformed(cause: FailureReport, reports: readonly FailureReport[]): FailureReport {
  const { kind, op, seq } = cause;
  if (kind !== "timeout" || op === CREATION || cause.ranks.length > 0) return cause;
  const knows = (other: FailureReport) =>
    other.kind === kind && other.op === op && other.seq === seq && other.ranks.length > 0;
  return reports.find(knows) ?? cause;
}

/** @param asked Whether the others had the time to report. */
function blame(size: number, reports: readonly FailureReport[], cause: FailureReport, asked: boolean): number[] {
  if (cause.kind === "aborted") return ranksThatAborted(reports, cause);
  if (cause.kind === "desync") return [];
  if (cause.ranks.length > 0) return [...cause.ranks];
  if (cause.op === CREATION) {
    const missed = missedAtCreation(reports, cause);
    if (missed.length > 0) return missed;
  }
  const silent = asked ? ranksOf(size).filter((rank) => reports.every((report) => report.rank !== rank)) : [];
  // A rank that is slow to report is only blamed if somebody had to do with it, or if nobody is blamed otherwise.
  const seen = silent.filter((rank) => reports.some((report) => report.peer === rank));
  if (seen.length > 0) return seen;
  // Which of the two should have sent cannot be known.
  if (mutualWait(cause, reports) !== undefined) return [];
  // A message has to do with its peer alone; what was to come from any rank, with nobody in particular.
  if (isMessage(cause)) return cause.peer >= 0 ? [cause.peer] : [];
  if (silent.length > 0) return silent;
  if (cause.kind === "timeout") {
    const collectives = reports.filter((report) => !isMessage(report));
    const latest = Math.max(...collectives.map(({ seq }) => seq));
    const behind = collectives.filter(({ called }) => called < latest).map(({ rank }) => rank);
    if (behind.length > 0) return behind;
  }
  return cause.peer >= 0 ? [cause.peer] : [];
}

function ranksThatAborted(reports: readonly FailureReport[], cause: FailureReport): number[] {
  const ranks = reports.filter(({ kind }) => kind === "aborted").map(({ rank }) => rank);
  return [...new Set([cause.rank, ...ranks])].sort((a, b) => a - b);
}

/** The two reports of ranks that were at messages with each other, neither of which came about, by their ranks. */
export function mutualWait(
  cause: FailureReport,
  reports: readonly FailureReport[],
): readonly [FailureReport, FailureReport] | undefined {
  if (cause.kind !== "timeout" || !isMessage(cause)) return undefined;
  const other = reports.find((report) => report.rank === cause.peer && isMessage(report) && report.peer === cause.rank);
  if (other === undefined) return undefined;
  return cause.rank < other.rank ? [cause, other] : [other, cause];
}

/**
 * Who has not come, or has died, while a group was made: not a rank that has given up itself because of another one, which
 * those who waited for it name.
 */
function missedAtCreation(reports: readonly FailureReport[], cause: FailureReport): number[] {
  const certain = new Set(reports.flatMap(({ ranks }) => ranks));
  if (certain.size > 0) return [...certain].sort((a, b) => a - b);
  const reportOf = (rank: number) => reports.find((report) => report.rank === rank);
  const silent = new Set(reports.map(({ peer }) => peer).filter((peer) => peer >= 0 && reportOf(peer) === undefined));
  if (silent.size > 0) return [...silent].sort((a, b) => a - b);
  // It has come since, too late, or its own trouble is the cause.
  const passed = new Set<number>();
  let at = cause;
  for (let next = reportOf(at.peer); next !== undefined && !passed.has(at.rank); next = reportOf(at.peer)) {
    passed.add(at.rank);
    at = next;
  }
  return passed.size > 0 || at.kind === "other" ? [at.rank] : [];
}

/** Whether the op is point-to-point; those have sequence numbers of their own. */
export function isMessage({ op }: FailureReport): boolean {
  return op === "send" || op === "recv";
}

function ranksOf(size: number): number[] {
  return Array.from({ length: size }, (_, rank) => rank);
}

function parseVerdict(bytes: Uint8Array): FailureVerdict | undefined {
  const value = parseObject(bytes) as Partial<Record<keyof FailureVerdict, unknown>> | undefined;
  if (value === undefined || !isReport(value.cause)) return undefined;
  const { culprits, cause, reports } = value;
  if (!Array.isArray(culprits) || !culprits.every(Number.isInteger)) return undefined;
  if (!Array.isArray(reports) || !reports.every(isReport)) return undefined;
  return { culprits, cause, reports };
}

function requireVerdict(bytes: Uint8Array): FailureVerdict {
  const verdict = parseVerdict(bytes);
  if (verdict === undefined) throw new TypeError("no verdict");
  return verdict;
}

function parseReport(bytes: Uint8Array): FailureReport | undefined {
  const value = parseObject(bytes);
  return isReport(value) ? value : undefined;
}

function parseObject(bytes: Uint8Array): object | undefined {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes));
    return typeof value === "object" && value !== null ? value : undefined;
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
    Number.isInteger(report.called) &&
    typeof report.kind === "string" &&
    typeof report.op === "string" &&
    typeof report.text === "string" &&
    Array.isArray(report.ranks) &&
    report.ranks.every(Number.isInteger)
  );
}
