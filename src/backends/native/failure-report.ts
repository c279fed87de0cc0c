import type { Store, StoreCallOptions } from "../../store/store.ts";

/** What one rank knows of the failure of its group. */
export interface FailureReport {
  readonly rank: number;
  readonly op: string;
  readonly seq: number;
  /** How many collectives the rank has called. With several in flight, ranks need not report the same one. */
  readonly called: number;
  readonly kind: FailureKind;
  /** Text of the failure as this rank sees it. */
  readonly text: string;
  /**
   * Rank that this one waited for or saw leave, or -1. While a group is made, this rank itself if it waited for a group
   * that it makes before.
   */
  readonly peer: number;
  /** Ranks known to have caused it; for `desync`, the two whose calls differ. */
  readonly ranks: readonly number[];
}

/**
 * `lost`: a connection broke, possibly as a consequence of any other kind on another rank. `desync`: two ranks made
 * different calls. The text names both, as there is no way to know which is wrong.
 */
export type FailureKind = "timeout" | "lost" | "aborted" | "desync" | "other";

/** What the ranks agree on after a failure. */
export interface FailureVerdict {
  /** Ranks that caused it; empty if unknown. */
  readonly culprits: readonly number[];
  /** The report that explains the others. */
  readonly cause: FailureReport;
  /** Ranks that reported in time. */
  readonly reports: readonly FailureReport[];
}

/** {@link FailureReport.op} of a rank that has given up making the group. */
export const CREATION = "creation";

/** How long a rank waits. */
export interface ConsultLimits {
  /** For the reports of the others. */
  readonly reportsMs: number;
  /** For publishing its own report, and then the verdict: without both, ranks may name different culprits. */
  readonly storeMs: number;
}

const REPORT_LIMIT_MS = 400;
const STORE_LIMIT_MS = 1_000;
const FIRST_KEY = "failure/first";
const VERDICT_KEY = "failure/verdict";
const decoder = new TextDecoder();
const reportKey = (rank: number): string => `failure/${rank}`;

/** The first report of a failure of the group, if there is one yet. Rejects with the store's error. */
export async function firstFailure(store: Store, limitMs: number): Promise<FailureReport | undefined> {
  const limits = { timeout: limitMs };
  return (await store.check([FIRST_KEY], limits)) ? parseReport(await store.get(FIRST_KEY, limits)) : undefined;
}

/** Publishes what this rank knows of a failure, without asking the others. Never rejects. */
export async function reportFailure(store: Store, own: FailureReport): Promise<void> {
  await publish(store, own, { timeout: REPORT_LIMIT_MS }).catch(() => {});
}

/** Returns the report that was published first. */
async function publish(store: Store, own: FailureReport, limits: StoreCallOptions): Promise<FailureReport | undefined> {
  const [first] = await Promise.all([
    store.compareSet(FIRST_KEY, "", JSON.stringify(own), limits),
    store.set(reportKey(own.rank), JSON.stringify(own), limits),
  ]);
  return parseReport(first);
}

/**
 * Publishes this rank's view of a failure under `failure/` and waits briefly for those of the others. The first rank to
 * reach a verdict publishes it, and all adopt it, so that they name the same culprits. Never rejects: without a store,
 * the verdict is this rank's own view.
 */
export async function consultOnFailure(
  store: Store,
  size: number,
  own: FailureReport,
  // An abort has to end within a second.
  { reportsMs, storeMs }: ConsultLimits = {
    reportsMs: REPORT_LIMIT_MS,
    storeMs: own.kind === "aborted" ? REPORT_LIMIT_MS : STORE_LIMIT_MS,
  },
): Promise<FailureVerdict> {
  const alone: FailureVerdict = { culprits: blame(size, [own], own, false), cause: own, reports: [own] };
  const enough = new AbortController();
  const limits = { timeout: reportsMs, signal: enough.signal };
  try {
    const first = await publish(store, own, { timeout: storeMs });
    const verdict = await Promise.any([
      store.get(VERDICT_KEY, limits).then(requireVerdict),
      collectReports(store, size, own, first ?? own, limits),
    ]);
    enough.abort();
    const agreed = await store.compareSet(VERDICT_KEY, "", JSON.stringify(verdict), { timeout: storeMs });
    return parseVerdict(agreed) ?? verdict;
  } catch {
    // The store is lost with the rank that hosted it.
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
  // A rank that aborts the group knows the cause itself.
  const others = own.kind === "aborted" ? [] : ranksOf(size).filter((rank) => rank !== own.rank);
  const answers = await Promise.allSettled(others.map((rank) => store.get(reportKey(rank), limits)));
  const reports = [own];
  for (const answer of answers) {
    const report = answer.status === "fulfilled" ? parseReport(answer.value) : undefined;
    if (report) reports.push(report);
  }
  if (reports.every(({ rank }) => rank !== first.rank)) reports.push(first);
  // A broken connection is the cause only if no rank reports a better one.
  const cause = bestInformed([first, ...reports].find((report) => report.kind !== "lost") ?? first, reports);
  return { culprits: blame(size, reports, cause, true), cause, reports };
}

/** Among time-outs in one op, prefers a report that names the missing ranks: that of rank 0 in a monitored barrier. */
function bestInformed(cause: FailureReport, reports: readonly FailureReport[]): FailureReport {
  const { kind, op, seq } = cause;
  if (kind !== "timeout" || op === CREATION || cause.ranks.length > 0) return cause;
  const knows = (other: FailureReport) =>
    other.kind === kind && other.op === op && other.seq === seq && other.ranks.length > 0;
  return reports.find(knows) ?? cause;
}

/** @param asked Whether the others had time to report. */
function blame(size: number, reports: readonly FailureReport[], cause: FailureReport, asked: boolean): number[] {
  if (cause.kind === "aborted") return ranksThatAborted(reports, cause);
  if (cause.kind === "desync") return [];
  if (cause.ranks.length > 0) return [...cause.ranks];
  if (cause.op === CREATION) {
    const missed = missedAtCreation(reports, cause);
    if (missed.length > 0) return missed;
    // No rank of this group holds it up, also if one is slow to report.
    if (cause.peer === cause.rank) return [];
  }
  const silent = asked ? ranksOf(size).filter((rank) => reports.every((report) => report.rank !== rank)) : [];
  // A rank that is slow to report is blamed only if another report names it as its peer, or if no other rank can be.
  const seen = silent.filter((rank) => reports.some((report) => report.peer === rank));
  if (seen.length > 0) return seen;
  // There is no way to know which of the two should have sent.
  if (mutualWait(cause, reports) !== undefined) return [];
  const behind = cause.kind === "timeout" ? ranksBehind(reports, cause) : [];
  if (isMessage(cause)) {
    // Its peer waits in a collective that others, such as the rank of the message, have not called.
    const isDeserted = cause.peer < 0 ? silent.length === 0 : reportOfPeer(cause, reports) !== undefined;
    if (isDeserted && behind.length > 0 && !behind.includes(cause.peer)) return behind;
    // A message involves only its peer; a recv from any source, no rank in particular.
    return cause.peer >= 0 ? [cause.peer] : [];
  }
  if (silent.length > 0) return silent;
  if (behind.length > 0) return behind;
  if (cause.peer >= 0) return [cause.peer];
  // The error of its own library, which has not come from another rank.
  return cause.kind === "other" && size > 1 ? [cause.rank] : [];
}

/**
 * The ranks that have not called the collective of the cause, or for a message the latest collective in which others
 * wait, except those that wait for a message of such a rank. Ranks that were in a later collective had data of all
 * ranks for that of the cause, so that they say nothing of who is missing in it.
 */
function ranksBehind(reports: readonly FailureReport[], cause: FailureReport): number[] {
  const collectives = isMessage(cause) ? reports.filter((report) => !isMessage(report)) : [cause];
  const latest = Math.max(...collectives.map(({ seq }) => seq));
  const behind = reports.filter(({ called }) => called < latest);
  const ranks = behind.map(({ rank }) => rank);
  const first = behind.filter((report) => !isMessage(report) || !ranks.includes(report.peer));
  return first.length > 0 ? first.map(({ rank }) => rank) : ranks;
}

/** The report of the rank that another one's op waited for. */
export function reportOfPeer({ peer }: FailureReport, reports: readonly FailureReport[]): FailureReport | undefined {
  return reports.find(({ rank }) => rank === peer);
}

function ranksThatAborted(reports: readonly FailureReport[], cause: FailureReport): number[] {
  const ranks = reports.filter(({ kind }) => kind === "aborted").map(({ rank }) => rank);
  return [...new Set([cause.rank, ...ranks])].sort((a, b) => a - b);
}

/** The reports of two ranks whose messages waited for each other, in rank order. */
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
 * The ranks that did not arrive, or died, while a group was made. A rank that gave up because of another one is not one
 * of them, although the ranks that waited for it name it.
 */
function missedAtCreation(reports: readonly FailureReport[], cause: FailureReport): number[] {
  const certain = new Set(reports.flatMap(({ ranks }) => ranks));
  if (certain.size > 0) return [...certain].sort((a, b) => a - b);
  const reportOf = (rank: number) => reports.find((report) => report.rank === rank);
  const silent = new Set(reports.map(({ peer }) => peer).filter((peer) => peer >= 0 && reportOf(peer) === undefined));
  if (silent.size > 0) return [...silent].sort((a, b) => a - b);
  if (cause.peer === cause.rank) return [];
  // It arrived too late, or its own error is the cause.
  const passed = new Set<number>();
  let at = cause;
  for (let next = reportOf(at.peer); next !== undefined && !passed.has(at.rank); next = reportOf(at.peer)) {
    passed.add(at.rank);
    at = next;
  }
  return passed.size > 0 || at.kind === "other" ? [at.rank] : [];
}

/** Whether the op is point-to-point; those have sequence numbers of their own. */
export function isMessage({ op }: Pick<FailureReport, "op">): boolean {
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
