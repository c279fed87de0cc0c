import { hasNotCalled } from "./called-turns.ts";
import type { OverdueOp } from "./missing-ranks.ts";
import type { OpStatus, RankStatus } from "./rank-status.ts";
import { isOver } from "./status-folder.ts";

/** Which ranks an op that failed is blamed on. Ranks are ranks in its group. */
export interface Culprits {
  /** Those that the backend names, corrected by what the records prove. */
  readonly ranks: readonly number[];
  /** Ranks that the backend names although they wait for those, or have given up waiting. */
  readonly cleared: readonly number[];
}

/**
 * Who is to blame for an op, by what the backend says and the records prove. A rank that has not called the collective
 * is to blame, unless it waits for such a rank itself; one that has called it and waits, or has given up, is not.
 *
 * @param statusOf Record of a rank, unless that is older than the op.
 */
export function culprits(op: OverdueOp, statusOf: (rank: number) => RankStatus | undefined): Culprits {
  const { group, turn, rank: own, peers, haveLeft } = op;
  const others = op.globalRanks.map((_, rank) => rank).filter((rank) => rank !== own);
  const known = new Map(others.flatMap((rank) => entryOf(rank, statusOf(rank))));
  const late = [...known].filter(([, status]) => hasNotCalled(status, group, turn)).map(([rank]) => rank);
  if (late.length === 0) return { ranks: peers, cleared: [] };
  const isVictim = (rank: number) => {
    const status = known.get(rank);
    return status !== undefined && waitsIn(status, group, (each) => isBehind(each, turn) || late.includes(each.peer));
  };
  const first = late.filter((rank) => !isVictim(rank));
  // If all of them wait, only the backend knows for whom.
  const suspects = first.length > 0 ? first : late.filter((rank) => peers.includes(rank));
  const missing = suspects.length > 0 ? suspects : late;
  const isCleared = (rank: number) => {
    if (rank === own) return turn > 0 && op.hasWaited;
    const status = known.get(rank);
    return status !== undefined && waitsIn(status, group, (each) => each.turn > 0 && each.turn === turn);
  };
  const cleared = peers.filter(isCleared);
  const named = peers.filter((rank) => !cleared.includes(rank));
  // One that lives and has not called it lost its group to the rank whose op has timed out.
  const isLeft = (rank: number) => missing.includes(rank) && !isLost(known.get(rank));
  const hasTimedOut = (status: RankStatus) =>
    waitsIn(status, group, (each) => each.turn === turn && each.hasTimedOut === true);
  const isTimeout = !haveLeft || (named.every(isLeft) && [...known.values()].some(hasTimedOut));
  if (isTimeout) return { ranks: sorted([...named, ...missing]), cleared };
  // After the loss of a rank, others that have not called the op may just be slower.
  if (named.length > 0) return { ranks: named, cleared };
  const lost = missing.filter((rank) => isLost(known.get(rank)));
  return { ranks: lost.length > 0 ? lost : missing, cleared };
}

function entryOf(rank: number, status: RankStatus | undefined): [number, RankStatus][] {
  return status === undefined ? [] : [[rank, status]];
}

/** Whether a rank that can go on waits in such an op of the group, or has given up waiting in it. */
function waitsIn(status: RankStatus, group: string, isSuch: (op: OpStatus) => boolean): boolean {
  const ended = [status.last, status.lastFailed].filter((each) => each?.hasGivenUp === true);
  const pending = isLost(status) || status.process === "stopped" ? [] : status.inFlight;
  return [...pending, ...ended].some((each) => each !== undefined && each.group === group && isSuch(each));
}

/** Whether an op is a collective before the one of this place. */
function isBehind(op: OpStatus, turn: number): boolean {
  return op.turn > 0 && op.turn < turn;
}

function isLost(status: RankStatus | undefined): boolean {
  return status !== undefined && isOver(status);
}

function sorted(ranks: readonly number[]): number[] {
  return [...new Set(ranks)].sort((a, b) => a - b);
}
