import { type OpStatus, opText, type RankStatus } from "../../status/index.ts";
import { durationText } from "../../time/index.ts";
import { phasesOf, phaseText } from "./rank-phases.ts";
import { bytesText, countText, type Rates } from "./rates.ts";

/** What a table says of a rank. */
export interface RankRow {
  readonly rank: number;
  readonly pid: string;
  readonly state: string;
  readonly op: string;
  /** For how long it has been in its op, or how long ago its last one ended. */
  readonly since: string;
  readonly opsPerSecond: string;
  readonly bytesPerSecond: string;
  readonly callSite: string;
  /** Whether it has not called the collective that other ranks wait in. */
  readonly isMissing: boolean;
  /** Whether it is in no op and its last one has failed. */
  readonly hasFailed: boolean;
  /** For how long it has been in its op, in milliseconds; 0 if it is in none. */
  readonly waitedMs: number;
}

/** From then on a wait is conspicuous. */
export const LONG_MS = 1_000;

export function rankRow(status: RankStatus, isMissing: boolean, rates: Rates | undefined): RankRow {
  const { rank, pid, thread, at, inFlight, pending, last } = status;
  const [oldest] = inFlight;
  const row = {
    ...{ rank, pid: thread === 0 ? String(pid) : `${pid}/${thread}`, state: stateOf(status), isMissing },
    hasFailed: pending === 0 && last?.hasFailed === true,
  };
  const [phase] = oldest === undefined && !hasEnded(status) ? phasesOf(status) : [];
  if (phase !== undefined) {
    const waitedMs = at - phase.began;
    const op = { op: phaseText(phase), since: spanText(waitedMs), callSite: phase.callSite ?? "" };
    return { ...row, ...op, opsPerSecond: "", bytesPerSecond: "", waitedMs };
  }
  const waitedMs = oldest === undefined ? 0 : at - oldest.began;
  const ago = last?.ended === undefined ? "" : `${spanText(at - last.ended)} ago`;
  const before = last === undefined ? "none yet" : `after ${last.hasFailed ? "failed " : ""}${nameOf(last)}`;
  return {
    ...row,
    op: oldest === undefined ? before : nameOf(oldest) + more(pending),
    since: oldest === undefined ? ago : spanText(waitedMs),
    opsPerSecond: rates === undefined ? "" : countText(rates.opsPerSecond),
    bytesPerSecond: rates === undefined ? "" : bytesText(rates.bytesPerSecond),
    callSite: (oldest ?? last)?.callSite ?? "",
    waitedMs,
  };
}

/** In whole milliseconds at least: records are not read so exactly. */
const spanText = (ms: number): string => durationText(Math.round(ms));

/** The state of a rank that has no record: it has not called `initProcessGroup`, or is of another kind. */
export const UNKNOWN_STATE = "not started";
/** What is said of such a rank. */
export const NOT_CALLED = "has not called initProcessGroup";

/** The row of such a rank. */
export function unknownRow(rank: number, isMissing: boolean): RankRow {
  return {
    ...{ rank, pid: "", state: UNKNOWN_STATE, op: NOT_CALLED, since: "", opsPerSecond: "", bytesPerSecond: "" },
    ...{ callSite: "", isMissing, hasFailed: false, waitedMs: 0 },
  };
}

function nameOf({ op, seq, group, peer }: OpStatus): string {
  return opText({ op, seq, group, peer, backend: undefined });
}

const more = (pending: number): string => (pending > 1 ? `, ${pending - 1} more` : "");

/** What the process of a rank does, in a word or two. */
export function stateOf(status: RankStatus): string {
  const { process, closedAt, pending, making, closing } = status;
  if (hasEnded(status)) return "ended";
  if (closedAt !== undefined) return "closed";
  if (process === "stopped") return "stopped";
  if (pending > 0) return "in op";
  if (making !== undefined) return "connecting";
  if (closing !== undefined) return "closing";
  return process === "running" ? "running" : "idle";
}

/** Whether the process of a rank has ended. */
export function hasEnded({ process, exitedAt }: RankStatus): boolean {
  return process === "gone" || exitedAt !== undefined;
}
