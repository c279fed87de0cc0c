import { type OpStatus, opText, type RankStatus, seconds } from "../../status/index.ts";

/** Since the look before. */
export interface Rates {
  readonly opsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** One line of the table. */
export interface RankRow {
  readonly cells: readonly string[];
  /** Whether it has not called the collective that other ranks wait in. */
  readonly isMissing: boolean;
  /** For how long it has been in its op, in milliseconds; 0 if it is in none. */
  readonly waitedMs: number;
}

export const columnNames = ["", "RANK", "PID", "STATE", "OP", "FOR", "OPS/S", "BYTES/S", "CALLED AT"] as const;
/** Columns of numbers, which are aligned on the right. */
export const numeric: ReadonlySet<number> = new Set([1, 2, 5, 6, 7]);

/** The rates of a rank between two looks at it; undefined for another process. */
export function ratesOf(before: RankStatus | undefined, now: RankStatus): Rates | undefined {
  if (before === undefined || before.pid !== now.pid || before.begun > now.begun) return undefined;
  const elapsed = (now.at - before.at) / 1_000;
  if (elapsed <= 0) return undefined;
  return {
    opsPerSecond: (now.begun - before.begun) / elapsed,
    bytesPerSecond: (now.bytes - before.bytes) / elapsed,
  };
}

/** From then on a wait is conspicuous. */
export const LONG_MS = 1_000;

export function rankRow(status: RankStatus, isMissing: boolean, rates: Rates | undefined): RankRow {
  const { rank, pid, thread, at, inFlight, pending, last } = status;
  const [oldest] = inFlight;
  const who = [isMissing ? "!" : "", String(rank), thread === 0 ? String(pid) : `${pid}/${thread}`, stateOf(status)];
  const [phase] = oldest === undefined && !hasEnded(status) ? phasesOf(status) : [];
  if (phase !== undefined) {
    const waitedMs = at - phase.began;
    return { cells: [...who, phaseText(phase), seconds(waitedMs), "", "", phase.callSite ?? ""], isMissing, waitedMs };
  }
  const shown = oldest ?? last;
  const waitedMs = oldest === undefined ? 0 : at - oldest.began;
  const since =
    oldest === undefined ? (last?.ended === undefined ? "" : `${seconds(at - last.ended)} ago`) : seconds(waitedMs);
  return {
    cells: [
      ...who,
      oldest === undefined
        ? last === undefined
          ? "none yet"
          : `after ${last.hasFailed ? "failed " : ""}${nameOf(last)}`
        : nameOf(oldest) + more(pending),
      since,
      rates === undefined ? "" : countText(rates.opsPerSecond),
      rates === undefined ? "" : bytesText(rates.bytesPerSecond),
      shown?.callSite ?? "",
    ],
    isMissing,
    waitedMs,
  };
}

/** Name of the default group, also before there is one. */
export const DEFAULT_GROUP = "0";

/** What a rank is in besides ops. */
export interface RankPhase {
  readonly name: string;
  /** The group that is closed, or of which one is made. */
  readonly group: string | undefined;
  readonly began: number;
  readonly callSite: string | undefined;
}

/** The groups that a rank is making and closing. */
export function phasesOf({ making, closing }: RankStatus): RankPhase[] {
  const { maker, parent, began = 0, callSite } = making ?? {};
  const phases: RankPhase[] = maker === undefined ? [] : [{ name: maker, group: parent, began, callSite }];
  if (closing !== undefined)
    phases.push({ name: "close", group: closing.group, began: closing.began, callSite: undefined });
  return phases;
}

export function phaseText({ name, group }: RankPhase): string {
  return name !== "close" || group === undefined ? name : `close on group "${group}"`;
}

/** The state of a rank that has no record: it has not called `initProcessGroup`, or is of another kind. */
export const UNKNOWN_STATE = "not started";
export const UNKNOWN_OP = "has not called initProcessGroup";

/** The row of such a rank. */
export function unknownRow(rank: number, isMissing: boolean): RankRow {
  const cells = [isMissing ? "!" : "", String(rank), "", UNKNOWN_STATE, UNKNOWN_OP, "", "", "", ""];
  return { cells, isMissing, waitedMs: 0 };
}

function nameOf({ op, seq, group, peer }: OpStatus): string {
  return opText({ op, seq, group, peer, backend: undefined });
}

/** An op as {@link rankRow} names it in fewer columns: the default group is not named. */
export function shortOp(text: string): string {
  return text.replace(/ on group "0"(?=$|,)/, "").replace(/ on group (?=")/, " on ");
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

export function countText(perSecond: number): string {
  return perSecond < 10 && perSecond > 0 ? perSecond.toFixed(1) : Math.round(perSecond).toLocaleString("en");
}

const units = ["B", "kB", "MB", "GB", "TB"] as const;

export function bytesText(perSecond: number): string {
  let [value, unit] = [perSecond, 0];
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
