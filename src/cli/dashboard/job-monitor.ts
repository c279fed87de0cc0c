import { basename } from "node:path";
import { areAwaited, missingAmong, type RankRecord, type RankStatus } from "../../status/index.ts";
import type { StartedRank } from "../launcher/attempt-status.ts";
import { LONG_MS } from "../ranks/rank-row.ts";
import { bytesText, countText, type Rates, ratesOf } from "../ranks/rates.ts";
import { OpLog, type Reader } from "./op-log.ts";
import type { EndView, JobView, ProblemView, RankView, Snapshot } from "./page/snapshot.ts";
import { problemsOf } from "./problems.ts";
import { rankView, unknownRank } from "./rank-view.ts";
import { onThisClock } from "./reported-record.ts";

/** What the page says of a job from its start. */
export interface WatchedJobInfo {
  readonly id: string;
  readonly command: readonly string[];
  readonly worldSize: number;
  readonly node: number;
  readonly nnodes: number;
  readonly startedAt: number;
}

/** What is read at each look. */
export interface WatchedAttempt {
  readonly attempt: number;
  /** The records of the ranks of this node. */
  readonly records: () => readonly RankRecord[];
  /** The ranks of this node. */
  readonly started: () => readonly StartedRank[];
}

/** Rates are of at least this time. */
const RATE_MS = 1_000;

/** Rates of a rank, and the look that the next ones count from. */
interface Pace {
  readonly from: RankRecord;
  readonly rates: Rates | undefined;
}

const nothing: Pick<Snapshot, "ranks" | "problems"> = { ranks: [], problems: [] };

/** What the launcher knows of its job at one moment, and the ops of the last looks. */
export class JobMonitor {
  readonly #job: WatchedJobInfo;
  readonly #log = new OpLog();
  #attempt: WatchedAttempt | undefined;
  /** The last record of each rank of the attempt, also when it has been removed. */
  #records = new Map<string, RankRecord>();
  /** What the log has of each of them. */
  readonly #logged = new Map<string, string>();
  #others: readonly RankRecord[] = [];
  #paces = new Map<string, Pace>();
  #seen = nothing;
  #at = Date.now();
  #problems: readonly ProblemView[] | undefined;
  /** Processes that had ended when the attempt was. */
  #endedBefore: ReadonlySet<number> = new Set();
  #report = "";
  #end: EndView | undefined;

  constructor(job: WatchedJobInfo) {
    this.#job = job;
  }

  /** Follows another attempt from now on. */
  watch(attempt: WatchedAttempt): void {
    this.#attempt = attempt;
    this.#log.forget(this.#logged.values(), this.#at);
    this.#logged.clear();
    this.#records = new Map();
    this.#paces = new Map();
    this.#others = [];
    this.#problems = undefined;
  }

  /** What other nodes report. */
  hear(others: readonly RankStatus[]): void {
    this.#others = others.map(onThisClock);
  }

  /** Reads what the ranks are doing. */
  look(): void {
    const attempt = this.#attempt;
    if (attempt === undefined) return;
    this.#at = performance.timeOrigin + performance.now();
    for (const record of attempt.records()) this.#records.set(keyOf(record), record);
    const records = [...this.#records.values(), ...this.#others].sort((a, b) => a.rank - b.rank || a.thread - b.thread);
    for (const record of records) {
      const key = keyOf(record);
      const logged = `${attempt.attempt} ${key} ${record.openedAt}`;
      const before = this.#logged.get(key);
      // The rank has closed its groups and makes others.
      if (before !== undefined && before !== logged) this.#log.forget([before], this.#at);
      this.#logged.set(key, logged);
      this.#log.add(logged, record);
      this.#pace(key, record);
    }
    const started = attempt.started();
    this.#seen = {
      ranks: this.#ranks(records, started),
      problems: this.#problems ?? problemsOf(records, started),
    };
  }

  /** The attempt is being ended: what follows from that is no problem of the job. */
  freeze(): void {
    this.look();
    this.#problems = this.#seen.problems;
    const started = this.#attempt?.started() ?? [];
    this.#endedBefore = new Set(started.flatMap(({ pid, exit }) => (exit === undefined ? [] : [pid])));
  }

  /** Adds to what the launcher says of the attempts that have failed. */
  report(text: string): void {
    this.#report += text;
  }

  /** The job has ended. */
  end(exitCode: number): void {
    this.#end = { exitCode };
  }

  /** The state at the last look, with the changes of ops that the reader has not got. */
  snapshotFor(reader: Reader): Snapshot {
    const { ops, hasGap } = this.#log.readBy(reader);
    return {
      at: this.#at,
      job: this.#jobView(),
      ...this.#seen,
      ...{ ops, hasGap },
      unseen: this.#log.unseen + reader.omitted,
      report: this.#report.trim(),
      end: this.#end,
    };
  }

  #ranks(records: readonly RankRecord[], started: readonly StartedRank[]): RankView[] {
    const missing = missingAmong(records, LONG_MS);
    const isAwaited = areAwaited(records, LONG_MS);
    const isStopped = (pid: number) => this.#problems !== undefined && !this.#endedBefore.has(pid);
    const exitOf = (pid: number) => started.find((rank) => rank.pid === pid)?.exit;
    const views = records.map((record) =>
      rankView(keyOf(record), record, {
        isMissing: missing.has(record),
        isStopped: record.reportedAt === undefined && isStopped(record.pid),
        rates: this.#paces.get(keyOf(record))?.rates,
        exit: record.reportedAt === undefined ? exitOf(record.pid) : undefined,
      }),
    );
    const isUnknown = ({ pid }: StartedRank) => records.every((record) => record.pid !== pid);
    const unknown = started.filter(isUnknown).map((rank) => unknownRank(rank, isAwaited, isStopped(rank.pid)));
    return [...views, ...unknown].sort((a, b) => a.rank - b.rank);
  }

  #pace(key: string, record: RankRecord): void {
    const known = this.#paces.get(key);
    if (known === undefined) this.#paces.set(key, { from: record, rates: undefined });
    else if (record.at - known.from.at >= RATE_MS)
      this.#paces.set(key, { from: record, rates: ratesOf(known.from, record) });
  }

  #jobView(): JobView {
    const { id, command, worldSize, node, nnodes, startedAt } = this.#job;
    const rates = [...this.#paces.values()].flatMap((pace) => pace.rates ?? []);
    const sum = (of: (each: Rates) => number) => rates.reduce((total, each) => total + of(each), 0);
    const known = rates.length > 0 && this.#end === undefined;
    return {
      ...{ id, worldSize, node, nnodes, startedAt, attempt: this.#attempt?.attempt ?? 0 },
      program: programOf(command),
      opsPerSecond: known ? countText(sum((each) => each.opsPerSecond)) : "",
      bytesPerSecond: known ? bytesText(sum((each) => each.bytesPerSecond)) : "",
    };
  }
}

function keyOf({ rank, pid, thread, host }: RankRecord): string {
  return `${rank} ${host} ${pid} ${thread}`;
}

/** The script, if Bun runs one. */
function programOf([program = "", script]: readonly string[]): string {
  return basename(program === process.execPath && script !== undefined ? script : program);
}
