import { durationText } from "../../time/index.ts";
import { needsAllRanks } from "../op-kind.ts";
import { hasEnded, type TraceOp } from "../rank-trace.ts";
import { errorText, groupText, opText, ranksOf, sitesText } from "../text/op-text.ts";
import { type Culprits, culpritsText } from "./culprits.ts";
import type { Finding } from "./finding.ts";
import type { GroupTraces, MemberTrace } from "./group-traces.ts";
import type { Job } from "./job.ts";
import { lastCallText } from "./last-op-text.ts";
import { mismatch } from "./mismatches.ts";
import { namedCalls } from "./named-calls.ts";

/** For how long a collective that all ranks have called may go on. */
const STUCK_MS = 60_000;
/** Ranks of which the last op is told. */
const TOLD_RANKS = 4;

/** What is wrong with the collectives of a group, and what is in flight. */
export interface CollectiveFindings {
  readonly findings: readonly Finding[];
  readonly inFlight: readonly string[];
}

/** Aligns the collectives of a group by their numbers. */
export function checkCollectives(traces: GroupTraces, job: Job): CollectiveFindings {
  return new CollectiveCheck(traces, job).run();
}

class CollectiveCheck {
  readonly #traces: GroupTraces;
  readonly #job: Job;
  /** Of ranks without a dump. */
  readonly #named: ReturnType<typeof namedCalls>;
  readonly #findings: Finding[] = [];
  #mismatches = 0;
  /** Collectives in flight, of which the first one is told. */
  #pending = 0;
  #firstPending = "";

  constructor(traces: GroupTraces, job: Job) {
    this.#traces = traces;
    this.#job = job;
    this.#named = namedCalls(traces);
  }

  run(): CollectiveFindings {
    const { members } = this.#traces;
    const numbers = new Set([...members.values()].flatMap(({ collectives }) => [...collectives.keys()]));
    for (const seq of [...numbers].sort((a, b) => a - b)) this.#check(seq, this.#callsOf(seq));
    if (this.#mismatches > 1) {
      const [first] = this.#findings.filter(({ kind }) => kind === "mismatch");
      const place = first === undefined ? -1 : this.#findings.indexOf(first);
      const rest = this.#mismatches - 1;
      const text = `${first?.text ?? ""} ${rest} later ${rest === 1 ? "collective differs" : "collectives differ"} too.`;
      if (first !== undefined) this.#findings[place] = { ...first, text };
    }
    const later = this.#pending - 1;
    const more = later < 1 ? "" : `; ${later} later ${later === 1 ? "collective is" : "collectives are"}, too`;
    return { findings: this.#findings, inFlight: this.#pending === 0 ? [] : [`${this.#firstPending}${more}.`] };
  }

  #callsOf(seq: number): ReadonlyMap<number, TraceOp> {
    const calls = new Map<number, TraceOp>();
    for (const [rank, { collectives }] of this.#traces.members) {
      const op = collectives.get(seq);
      if (op !== undefined) calls.set(rank, op);
    }
    return calls;
  }

  #check(seq: number, calls: ReadonlyMap<number, TraceOp>): void {
    const different = mismatch(this.#traces, seq, new Map([...calls, ...(this.#named.get(seq) ?? [])]));
    if (different !== undefined) {
      this.#mismatches++;
      if (this.#mismatches === 1) this.#findings.push(different);
      return;
    }
    const missing = this.#missing(seq);
    const waiting = waitingCalls(calls, missing.length > 0);
    if (waiting.size === 0) return;
    if (this.#isExplained(waiting)) return;
    const found = this.#missingRanks(seq, waiting, missing) ?? this.#endless(seq, waiting, missing);
    if (found !== undefined) this.#findings.push(found);
    else this.#note(waiting, missing);
  }

  /** The first thing that is wrong explains what follows; after a mismatch, only what is still pending is not explained. */
  #isExplained(waiting: ReadonlyMap<number, TraceOp>): boolean {
    if (this.#findings.some(({ kind }) => kind !== "mismatch")) return true;
    return this.#findings.length > 0 && [...waiting.values()].every(hasEnded);
  }

  /** Ranks that have a dump which says that they have not called the collective. */
  #missing(seq: number): readonly number[] {
    const { members } = this.#traces;
    return [...members].flatMap(([rank, { last, first, trace }]) =>
      seq > last && first !== Number.POSITIVE_INFINITY && !trace.isPartial ? [rank] : [],
    );
  }

  /** Ranks that have not called the collective, and those of which nothing says whether they have. */
  #missingRanks(seq: number, waiting: ReadonlyMap<number, TraceOp>, missing: readonly number[]): Finding | undefined {
    const isYoung = this.#job.isYoung(waiting);
    const overdue = missing.filter(
      (rank) => this.#job.isOverdue(rank, waiting) && !(isYoung && this.#isReturning(rank)),
    );
    const { absent, lost } = this.#unknownRanks(seq, waiting);
    const ranks = [...overdue, ...absent, ...lost].sort((a, b) => a - b);
    const [op] = waiting.values();
    if (ranks.length === 0 || op === undefined) return undefined;
    const { group } = this.#traces;
    const text = `${groupText(group)}: ${culpritsText({ overdue, absent, lost }, opText(op))}; ${this.#waitText(waiting)}.`;
    const lastOps = overdue.slice(0, TOLD_RANKS).map((rank) => ` ${lastCallText(this.#job, rank, group.uid)}.`);
    const kind = overdue.length > 0 ? "missing" : "absent";
    return { kind, group, seq, ranks, text: `${text}${lastOps.join("")}` };
  }

  /** Whether a rank is still in a collective that others have completed. A rank that writes its dump holds them up. */
  #isReturning(rank: number): boolean {
    const { members } = this.#traces;
    const last = members.get(rank)?.last ?? 0;
    const op = members.get(rank)?.collectives.get(last);
    if (op === undefined || hasEnded(op)) return false;
    return [...members.values()].some(({ collectives }) => collectives.get(last)?.state === "completed");
  }

  /** Ranks of which nothing says that they have called the collective, nor that they have not. */
  #unknownRanks(seq: number, waiting: ReadonlyMap<number, TraceOp>): Pick<Culprits, "absent" | "lost"> {
    const { group, members } = this.#traces;
    if (!this.#job.isLate(waiting)) return { absent: [], lost: [] };
    const absent = group.ranks.filter((rank) => !members.has(rank) && !this.#named.get(seq)?.has(rank));
    const lost = [...members].flatMap(([rank, member]) =>
      hasLostCollectives(member, group.uid) && this.#job.isOverdue(rank, waiting) ? [rank] : [],
    );
    return { absent, lost };
  }

  /** A collective that failed, or does not end, though no rank is known to be missing. */
  #endless(seq: number, waiting: ReadonlyMap<number, TraceOp>, missing: readonly number[]): Finding | undefined {
    const { group } = this.#traces;
    const failed = [...waiting].filter(([, { state }]) => state === "failed");
    const [op] = waiting.values();
    if (op === undefined) return undefined;
    if (failed.length > 0) {
      const text = `${groupText(group)}: ${this.#failureText(failed)}.`;
      return { kind: "failed", group, seq, ranks: failed.map(([rank]) => rank), text };
    }
    if (missing.length > 0 || !this.#isStuck(waiting)) return undefined;
    const text = `${groupText(group)}: all ranks have called ${opText(op)}, and it does not end; ${this.#waitText(waiting)}.`;
    return { kind: "stuck", group, seq, ranks: [...waiting.keys()], text };
  }

  #isStuck(waiting: ReadonlyMap<number, TraceOp>): boolean {
    // Dumps are made one after the other: a rank that has completed it shows that it was going on.
    const isEnding = waiting.size < this.#traces.members.size;
    return [...waiting].some(([rank, op]) => {
      if (this.#job.trace(rank)?.isFailure === true && !isEnding) return true;
      return this.#job.waited(rank, op) >= Math.min(STUCK_MS, op.timeoutMs);
    });
  }

  #note(waiting: ReadonlyMap<number, TraceOp>, missing: readonly number[]): void {
    const pending = new Map([...waiting].filter(([, op]) => !hasEnded(op)));
    const [op] = pending.values();
    if (op === undefined) return;
    this.#pending++;
    if (this.#pending > 1) return;
    const yet =
      missing.length === 0 ? "" : `; ${ranksOf(missing)} ${missing.length === 1 ? "has" : "have"} not called it yet`;
    this.#firstPending = `${groupText(this.#traces.group)}: ${opText(op)} is in flight; ${this.#waitText(pending)}${yet}`;
  }

  /** `ranks 0, 1, 3 have waited in it for 12.3 s (train.ts:41)`, and on which ranks it failed. */
  #waitText(waiting: ReadonlyMap<number, TraceOp>): string {
    const pending = [...waiting].filter(([, { state }]) => state !== "failed");
    const failed = [...waiting].filter(([, { state }]) => state === "failed");
    const parts: string[] = [];
    if (pending.length > 0) {
      const longest = Math.max(...pending.map(([rank, op]) => this.#job.waited(rank, op)));
      const how = pending.some(([, op]) => !hasEnded(op))
        ? `${pending.length === 1 ? "has" : "have"} waited in it for ${durationText(longest)}`
        : "called it, and it is no longer in flight";
      parts.push(`${ranksOf(pending.map(([rank]) => rank))} ${how}${sitesText(pending.map(([, op]) => op))}`);
    }
    if (failed.length > 0) parts.push(this.#failureText(failed));
    return parts.join("; ");
  }

  #failureText(failed: readonly (readonly [number, TraceOp])[]): string {
    const ops = failed.map(([, op]) => op);
    const [first] = ops;
    if (first === undefined) return "";
    const after = durationText(Math.max(...failed.map(([rank, op]) => this.#job.waited(rank, op))));
    const reason = ops.find(({ error }) => error !== undefined)?.error;
    const why = reason === undefined ? "" : `: ${errorText(reason)}`;
    return `${opText(first)} failed after ${after} on ${ranksOf(failed.map(([rank]) => rank))}${sitesText(ops)}${why}`;
  }
}

/** Whether a rank's ring has no collective of a group left, though it may have called some. */
function hasLostCollectives({ trace, collectives, messages }: MemberTrace, uid: string): boolean {
  if (trace.dropped === 0 || trace.isPartial || collectives.size > 0) return false;
  // Those that cannot be compared with PyTorch's are not lost.
  return messages.length > 0 || trace.ops.every(({ group }) => group !== uid);
}

/** The calls that are not known to have completed: pending, failed, or over with a result that was not recorded. */
function waitingCalls(calls: ReadonlyMap<number, TraceOp>, isIncomplete: boolean): ReadonlyMap<number, TraceOp> {
  const waiting = new Map<number, TraceOp>();
  for (const [rank, op] of calls) {
    if (!hasEnded(op) || op.state === "failed") waiting.set(rank, op);
    // Where all ranks are needed and one is missing, what is over has failed.
    else if (op.state === "ended" && isIncomplete && needsAllRanks(op.kind)) waiting.set(rank, op);
  }
  return waiting;
}
