import type { GroupMaking, RankStatus } from "./rank-status.ts";

/** How many collectives a rank has called on a group; undefined if its record does not say so. */
export function turnOn({ groups }: RankStatus, group: string): number | undefined {
  return groups.find(({ name }) => name === group)?.turn;
}

/** Whether a rank has not called the collective of a group that has this place among them, from 1. */
export function hasNotCalled(status: RankStatus, group: string, turn: number): boolean {
  return turn > (turnOn(status, group) ?? turn);
}

/** Whether a rank has not begun to make a group that another one makes. For the default group: whether it has none. */
export function hasNotMade(status: RankStatus, { parent, turn }: Pick<GroupMaking, "parent" | "turn">): boolean {
  if (turn === 0) return status.making?.turn !== 0 && status.groups.length === 0;
  return turn > (status.groups.find(({ name }) => name === parent)?.made ?? turn);
}

/** Whether ranks have been waiting in `initProcessGroup` for at least this time, and so for those that have no record. */
export function areAwaited(ranks: readonly RankStatus[], waitMs: number): boolean {
  return ranks.some(({ making, at }) => making?.turn === 0 && at - making.began >= waitMs);
}

/** Whether ranks may be of the same world, which is not known during the rendezvous. */
export function mayShareWorld(a: InWorld, b: InWorld): boolean {
  if (a.world === b.world) return true;
  // Their sizes may not be known either.
  const isSize = a.worldSize === b.worldSize || a.worldSize === 0 || b.worldSize === 0;
  return isSize && (a.world === 0 || b.world === 0);
}

type InWorld = Pick<RankStatus, "world" | "worldSize">;

/** The ranks that have not called a collective, or what makes a group, in which others of the job have been waiting for at least this time. */
export function missingAmong(ranks: readonly RankStatus[], waitMs: number): ReadonlySet<RankStatus> {
  const awaited = new Map<string, number>();
  const makings = ranks.flatMap(({ making, world, worldSize, at }) =>
    making !== undefined && at - making.began >= waitMs ? [{ ...making, world, worldSize }] : [],
  );
  for (const { inFlight, at } of ranks) {
    for (const { group, turn, began } of inFlight) {
      if (group !== undefined && turn > 0 && at - began >= waitMs)
        awaited.set(group, Math.max(turn, awaited.get(group) ?? 0));
    }
  }
  const isMissing = (rank: RankStatus) =>
    [...awaited].some(([group, turn]) => hasNotCalled(rank, group, turn)) ||
    makings.some((making) => mayShareWorld(rank, making) && hasNotMade(rank, making));
  return new Set(ranks.filter(isMissing));
}
