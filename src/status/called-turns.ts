import type { RankStatus } from "./rank-status.ts";

/** How many collectives a rank has called on a group; undefined if its record does not say so. */
export function turnOn({ groups }: RankStatus, group: string): number | undefined {
  return groups.find(({ name }) => name === group)?.turn;
}

/** Whether a rank has not called the collective of a group that has this place among them, from 1. */
export function hasNotCalled(status: RankStatus, group: string, turn: number): boolean {
  return turn > (turnOn(status, group) ?? turn);
}

/** The ranks that have not called a collective in which others of the job have been waiting for at least this time. */
export function missingAmong(ranks: readonly RankStatus[], waitMs: number): ReadonlySet<RankStatus> {
  const awaited = new Map<string, number>();
  for (const { inFlight, at } of ranks) {
    for (const { group, turn, began } of inFlight) {
      if (group !== undefined && turn > 0 && at - began >= waitMs)
        awaited.set(group, Math.max(turn, awaited.get(group) ?? 0));
    }
  }
  return new Set(ranks.filter((rank) => [...awaited].some(([group, turn]) => hasNotCalled(rank, group, turn))));
}
