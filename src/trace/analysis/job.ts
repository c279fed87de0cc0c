import { type GroupCall, hasEnded, type RankTrace, type TraceOp, type WaitingCall } from "../rank-trace.ts";
import { clockOffsets } from "./clock.ts";
import { type GroupTraces, groupTraces } from "./group-traces.ts";

/** For how long an op may wait for other ranks before it counts as a hang, if its own time-out is not shorter. */
const PATIENCE_MS = 10_000;

/** The dumps of a job, together. */
export class Job {
  readonly traces: readonly RankTrace[];
  readonly groups: readonly GroupTraces[];
  readonly #traceOf: ReadonlyMap<number, RankTrace>;
  readonly #offsets: ReadonlyMap<number, number>;

  constructor(traces: readonly RankTrace[]) {
    this.traces = [...traces].sort((a, b) => a.rank - b.rank);
    this.groups = groupTraces(this.traces);
    this.#traceOf = new Map(this.traces.map((trace) => [trace.rank, trace]));
    this.#offsets = clockOffsets(this.traces, this.groups);
  }

  trace(rank: number): RankTrace | undefined {
    return this.#traceOf.get(rank);
  }

  /** The rank's time by the clock of the first rank. */
  commonTime(rank: number, ms: number): number {
    return ms - (this.#offsets.get(rank) ?? 0);
  }

  /** Ranks of any group that left no dump. */
  absent(): readonly number[] {
    const made = this.traces.flatMap(({ groupCalls = [] }) => groupCalls.flatMap(({ ranks }) => ranks));
    const ranks = new Set([...this.groups.flatMap(({ group }) => group.ranks), ...made]);
    return [...ranks].filter((rank) => !this.#traceOf.has(rank)).sort((a, b) => a - b);
  }

  /** What a rank called last, in any group. */
  lastOp(rank: number): TraceOp | undefined {
    const ops = this.#traceOf.get(rank)?.ops ?? [];
    return ops.reduce<TraceOp | undefined>(
      (latest, op) => (latest === undefined || op.createdMs >= latest.createdMs ? op : latest),
      undefined,
    );
  }

  /** The call that makes or closes a group in which a rank is, or which failed, if it has called no op since. */
  lastGroupCall(rank: number): GroupCall | undefined {
    const [op, calls = []] = [this.lastOp(rank), this.#traceOf.get(rank)?.groupCalls];
    const call = calls.findLast(({ state }) => state !== "completed");
    if (call === undefined || call.createdMs < (op?.createdMs ?? 0)) return undefined;
    // Closing waits for the ops.
    return call.name === "close" && op !== undefined && !hasEnded(op) ? undefined : call;
  }

  /** For how long an op waited, or has been waiting, by the clock of its rank. */
  waited(rank: number, op: WaitingCall): number {
    const until = op.finishedMs ?? this.#traceOf.get(rank)?.dumpedMs ?? op.createdMs;
    return until - op.createdMs;
  }

  /**
   * Whether a rank should long have answered these calls of others. Its dump may be older than theirs: then it says
   * nothing, and the call may only be late.
   */
  isOverdue(rank: number, waiting: ReadonlyMap<number, WaitingCall>): boolean {
    const trace = this.#traceOf.get(rank);
    if (trace === undefined) return false;
    const dumped = this.commonTime(rank, trace.dumpedMs);
    return [...waiting].some(([caller, op]) => {
      if (op.state === "failed") return true;
      return dumped - this.commonTime(caller, op.createdMs) >= this.#patience(caller, op);
    });
  }

  /** Whether none of these calls has failed, or has waited for long. */
  isYoung(waiting: ReadonlyMap<number, WaitingCall>): boolean {
    return [...waiting].every(
      ([rank, op]) => op.state !== "failed" && this.waited(rank, op) < Math.min(PATIENCE_MS, op.timeoutMs),
    );
  }

  /** Whether one of these calls has failed or waited for so long that it is no longer only late. */
  isLate(waiting: ReadonlyMap<number, WaitingCall>): boolean {
    return [...waiting].some(
      ([rank, op]) => op.state === "failed" || this.waited(rank, op) >= this.#patience(rank, op),
    );
  }

  /** How long a call may wait before it counts as a hang. What is in flight when a group fails, or a rank is ended, hangs. */
  #patience(rank: number, { timeoutMs }: WaitingCall): number {
    return this.#traceOf.get(rank)?.isFailure === true ? 0 : Math.min(PATIENCE_MS, timeoutMs);
  }
}
