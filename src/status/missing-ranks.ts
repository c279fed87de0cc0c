import { ranksText } from "../errors/index.ts";
import { hasNotCalled, turnOn } from "./called-turns.ts";
import type { RankStatus } from "./rank-status.ts";
import { isOver } from "./status-folder.ts";
import { seconds, statusText } from "./where-text.ts";

/** A collective or a message that does not end. Ranks are ranks in its group, unless global. */
export interface OverdueOp {
  readonly group: string;
  /** This rank. */
  readonly rank: number;
  readonly globalRanks: readonly number[];
  /** Ranks that the backend names. */
  readonly peers: readonly number[];
  /** Whether they left, rather than are late: one that runs and has not failed has said why itself. */
  readonly haveLeft: boolean;
  /** When the op began, in milliseconds since the epoch. */
  readonly began: number;
  /** Place of the op among the collectives that this rank has called on the group; 0 for a message, or if unknown. */
  readonly turn: number;
}

/** What the status records say of the ranks that an op waits for. */
export interface MissingRanks {
  /** Ranks that have not called the collective. */
  readonly missing: readonly number[];
  /** For a message; empty if there is nothing to say. */
  readonly text: string;
}

/** How many ranks a message describes. */
const MAX_DESCRIBED = 8;

/** Describes the ranks that an op waits for: those that the backend names, and those that have not called it. */
export function missingRanks(op: OverdueOp, statuses: ReadonlyMap<number, RankStatus>): MissingRanks {
  const statusOf = (rank: number) => statuses.get(op.globalRanks[rank] ?? -1);
  const recent = (rank: number) => {
    const status = statusOf(rank);
    // What another host reported before does not say whether the rank has called the op since.
    return status === undefined || (status.reportedAt ?? op.began) < op.began ? undefined : status;
  };
  const others = op.globalRanks.map((_, rank) => rank).filter((rank) => rank !== op.rank);
  const isMissing = (status: RankStatus | undefined) => status !== undefined && hasNotCalled(status, op.group, op.turn);
  const isKnown = (status: RankStatus | undefined) => status !== undefined && turnOn(status, op.group) !== undefined;
  const missing = others.filter((rank) => isMissing(recent(rank)));
  const isMember = (rank: number) => rank !== op.rank && op.globalRanks[rank] !== undefined;
  const hasEnded = (status: RankStatus) => isOver(status) || status.last?.hasFailed === true;
  const isToldOf = (rank: number) => {
    const status = statusOf(rank);
    return !op.haveLeft || (status !== undefined && hasEnded(status));
  };
  const named = [...new Set([...op.peers.filter(isToldOf), ...missing])].filter(isMember).sort((a, b) => a - b);
  if (named.length === 0) {
    const isComplete =
      !op.haveLeft && op.turn > 0 && others.length > 0 && others.every((rank) => isKnown(recent(rank)));
    return { missing, text: isComplete ? "all other ranks have called it" : "" };
  }
  const now = performance.timeOrigin + performance.now();
  const lines = named.slice(0, MAX_DESCRIBED).map((rank) => {
    const global = op.globalRanks[rank];
    const who = `rank ${rank}${global === rank ? "" : ` (global rank ${global})`}`;
    const status = statusOf(rank);
    if (status === undefined)
      return `${who}, which has no status record here: it is elsewhere, or its process had none`;
    const called = missing.includes(rank) ? ", which has not called it" : "";
    const { pid, host, reportedAt } = status;
    const seen = reportedAt === undefined ? "" : ` on ${host}, ${seconds(now - reportedAt)} ago`;
    return `${who} (pid ${pid}${seen})${called}: ${statusText(status)}`;
  });
  const more = named.slice(MAX_DESCRIBED);
  if (more.length > 0) lines.push(ranksText(more));
  const list = lines.length === 1 ? ` ${lines[0]}` : lines.map((line) => `\n  ${line}`).join("");
  return { missing, text: `it waits for${list}` };
}
