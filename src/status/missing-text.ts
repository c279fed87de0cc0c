import { ranksText } from "../errors/index.ts";
import { hasNotCalled, hasNotMade, mayShareWorld } from "./called-turns.ts";
import type { RankStatus } from "./rank-status.ts";
import { opText } from "./where-text.ts";

/**
 * Sentences such as `rank 2 has not called allReduce #42 on group "0" (gloo)`: of each group the first collective, and
 * each group that is being made, in which others have been waiting for at least this time.
 */
export function missingTexts(ranks: readonly RankStatus[], waitMs: number): readonly string[] {
  const firsts = new Map<string, string>();
  const add = (key: string, missing: readonly RankStatus[], what: string) => {
    if (missing.length === 0 || firsts.has(key)) return;
    const names = [...new Set(missing.map(({ rank }) => rank))].sort((a, b) => a - b);
    firsts.set(key, `${ranksText(names)} ${names.length === 1 ? "has" : "have"} not called ${what}`);
  };
  const waits = ranks.flatMap(({ inFlight, at }) => inFlight.filter(({ began }) => at - began >= waitMs));
  for (const op of waits.toSorted((a, b) => a.turn - b.turn)) {
    const { group, turn } = op;
    if (group === undefined || turn === 0) continue;
    const missing = ranks.filter((rank) => hasNotCalled(rank, group, turn));
    add(`op ${group}`, missing, opText(op));
  }
  for (const rank of ranks) {
    const { making, at } = rank;
    if (making === undefined || at - making.began < waitMs) continue;
    const missing = ranks.filter((other) => mayShareWorld(other, rank) && hasNotMade(other, making));
    // Those that have a record have called it, in the rendezvous.
    if (making.turn > 0) add(`make ${making.parent} ${making.turn}`, missing, making.maker);
  }
  return [...firsts.values()];
}
