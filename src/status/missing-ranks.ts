import { ranksText } from "../errors/index.ts";
import { hasNotCalled, hasNotMade, turnOn } from "./called-turns.ts";
import { culprits } from "./culprits.ts";
import type { GroupMaking, OpStatus, RankStatus } from "./rank-status.ts";
import { isOver } from "./status-folder.ts";
import { opText, seconds, statusText } from "./where-text.ts";

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
  /** Whether this rank has waited in it for long, rather than called it when others had given up. */
  readonly hasWaited: boolean;
  /** How the list of ranks begins. Default: `it waits for`. */
  readonly head?: string;
}

/** What the status records say of the ranks that an op waits for. */
export interface MissingRanks {
  /** Ranks that have not called the collective. */
  readonly missing: readonly number[];
  /** Ranks that the op is to be blamed on: those that the backend names, unless the records know better. */
  readonly culprits: readonly number[];
  /** For a message; empty if there is nothing to say. */
  readonly text: string;
}

/** How many ranks a message describes. */
const MAX_DESCRIBED = 8;
/** How many more it names. */
const MAX_NAMED = 32;
/** Time-outs of ranks that wait for the same one expire within this time. */
const JUST_MS = 1_000;

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
  const { ranks, cleared } = culprits(op, recent);
  const waiting = cleared.filter((rank) => rank !== op.rank);
  const isMember = (rank: number) => rank !== op.rank && op.globalRanks[rank] !== undefined;
  const hasEnded = (status: RankStatus) =>
    isOver(status) || status.last?.hasFailed === true || isLeaving(status, op.group);
  const isToldOf = (rank: number) => {
    const status = statusOf(rank);
    return !op.haveLeft || (status !== undefined && hasEnded(status));
  };
  const told = op.peers.filter((rank) => isToldOf(rank) && !waiting.includes(rank));
  const named = [...new Set([...told, ...missing])].filter(isMember).sort((a, b) => a - b);
  const lineOf = (rank: number) =>
    rankLine(rank, op.globalRanks[rank], statusOf(rank), missing.includes(rank), "its process had none");
  if (named.length === 0) {
    const isComplete =
      !op.haveLeft && op.turn > 0 && others.length > 0 && others.every((rank) => isKnown(recent(rank)));
    if (!isComplete) return { missing, culprits: ranks, text: "" };
    const own = calledBy(statusOf(op.rank), op)?.op;
    const instead = others.flatMap((rank) => {
      const called = calledBy(recent(rank), op);
      return called === undefined || own === undefined || called.op === own ? [] : [insteadText(rank, called)];
    });
    return {
      missing,
      culprits: ranks,
      text: instead.slice(0, MAX_DESCRIBED).join("; ") || "all other ranks have called it",
    };
  }
  const list = listText(op.head ?? "it waits for", named, lineOf);
  const [waits, has] = waiting.length === 1 ? ["waits", "has"] : ["wait", "have"];
  const verb = op.haveLeft ? `${has} given up waiting` : `${waits} in it`;
  const among = waiting.length === 0 ? "" : `; ${ranksText(waiting)} ${verb} as well`;
  return { missing, culprits: ranks, text: `${list}${among}` };
}

/** The collective that a rank has called at a place on a group; undefined if its record does not tell any more. */
function calledBy(
  status: RankStatus | undefined,
  { group, turn }: Pick<OverdueOp, "group" | "turn">,
): OpStatus | undefined {
  if (status === undefined) return undefined;
  return [...status.inFlight, status.last, status.lastFailed].find((op) => op?.group === group && op.turn === turn);
}

/** What a rank has called in the place of an op. */
function insteadText(rank: number, called: OpStatus): string {
  const at = called.callSite === undefined ? "" : `, at ${called.callSite}`;
  return `rank ${rank} has called ${opText(called)} in its place${at}`;
}

/** Whether a rank closes groups, has closed this one, or goes on to make another. */
function isLeaving({ closing, making, groups }: RankStatus, group: string): boolean {
  return closing !== undefined || making !== undefined || groups.every(({ name }) => name !== group);
}

/** Describes the ranks that could have sent what a `recv` from any rank waits for: all others. */
export function possibleSenders(
  { rank: own, globalRanks }: Pick<OverdueOp, "rank" | "globalRanks">,
  statuses: ReadonlyMap<number, RankStatus>,
): string {
  const statusOf = (rank: number) => statuses.get(globalRanks[rank] ?? -1);
  const known = globalRanks.flatMap((_, rank) => (rank !== own && statusOf(rank) !== undefined ? [rank] : []));
  const line = (rank: number) => rankLine(rank, globalRanks[rank], statusOf(rank), false, "");
  const list = listText("it waits for a message from any rank:", known, line);
  const others = globalRanks.length - 1 - known.length;
  if (list === "" || others === 0) return list;
  return `${list}\n  ${others} ${others === 1 ? "rank has" : "ranks have"} no status record here`;
}

/** A group that is not made in time. Ranks are ranks in it. */
export interface OverdueGroup extends Pick<GroupMaking, "maker" | "parent" | "turn"> {
  /** This rank. */
  readonly rank: number;
  readonly globalRanks: readonly number[];
  /** Ranks that the backend names. */
  readonly peers: readonly number[];
}

/**
 * Describes the ranks that a new group waits for, if the backend names them, else those that have not called what makes
 * it; those that have no record are among them only if that is all they can have.
 */
export function missingMembers(group: OverdueGroup, statuses: ReadonlyMap<number, RankStatus>): string {
  const { maker, rank: own, globalRanks, peers, turn } = group;
  const statusOf = (rank: number) => statuses.get(globalRanks[rank] ?? -1);
  const others = globalRanks.map((_, rank) => rank).filter((rank) => rank !== own);
  const line = (rank: number) => rankLine(rank, globalRanks[rank], statusOf(rank), false, `it has not called ${maker}`);
  const isMissing = (rank: number) => {
    const status = statusOf(rank);
    return status === undefined ? turn === 0 : hasNotMade(status, group);
  };
  const named = others.filter(peers.length > 0 ? (rank) => peers.includes(rank) : isMissing);
  // One whose time-out has just expired as well has waited for the same ranks.
  const guilty = named.filter((rank) => !hasJustFailed(statusOf(rank)));
  return listText("it waits for", guilty.length > 0 ? guilty : named, line);
}

function hasJustFailed(status: RankStatus | undefined): boolean {
  return status?.closedAt !== undefined && status.groups.length === 0 && status.at - status.closedAt < JUST_MS;
}

function rankLine(
  rank: number,
  global: number | undefined,
  status: RankStatus | undefined,
  isMissing: boolean,
  orElse: string,
): string {
  const who = `rank ${rank}${global === rank ? "" : ` (global rank ${global})`}`;
  if (status === undefined) return `${who}, which has no status record here: it is elsewhere, or ${orElse}`;
  const { pid, host, reportedAt } = status;
  const now = performance.timeOrigin + performance.now();
  const seen = reportedAt === undefined ? "" : ` on ${host}, ${seconds(now - reportedAt)} ago`;
  return `${who} (pid ${pid}${seen})${isMissing ? ", which has not called it" : ""}: ${statusText(status)}`;
}

function listText(head: string, ranks: readonly number[], lineOf: (rank: number) => string): string {
  if (ranks.length === 0) return "";
  const lines = ranks.slice(0, MAX_DESCRIBED).map(lineOf);
  const more = ranks.slice(MAX_DESCRIBED);
  if (more.length > 0) lines.push(more.length > MAX_NAMED ? `${more.length} more ranks` : ranksText(more));
  return `${head}${lines.length === 1 ? ` ${lines[0]}` : lines.map((line) => `\n  ${line}`).join("")}`;
}
