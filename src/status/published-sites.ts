import type { RankStatus } from "./rank-status.ts";
import { isOver } from "./status-folder.ts";
import { publishCallSites } from "./status-record.ts";

/** How long the other rank may take to publish where it made its call: it fails at about the same time. */
const PUBLISHED_WITHIN_MS = 150;
const LOOK_EVERY_MS = 5;

/** A collective that ranks of a group have called in the same turn. */
export interface CalledOp {
  readonly group: string;
  readonly globalRanks: readonly number[];
  /** Its place among the collectives that this rank has called on the group. */
  readonly turn: number;
}

/**
 * Where other ranks of a group made their call of the same turn, by rank: those that publish it in time.
 * @param look Reads the records of the ranks, by global rank.
 */
export function publishedSites(
  { group, globalRanks, turn }: CalledOp,
  ranks: readonly number[],
  look: () => ReadonlyMap<number, RankStatus>,
): Map<number, string> {
  // Ranks of the same thread cannot do it while this one looks.
  publishCallSites();
  const sites = new Map<number, string>();
  for (const end = performance.now() + PUBLISHED_WITHIN_MS; ; Bun.sleepSync(LOOK_EVERY_MS)) {
    const statuses = look();
    const isDue = (rank: number) => {
      const status = statuses.get(globalRanks[rank] ?? -1);
      if (status === undefined) return false;
      const { inFlight, last, lastFailed } = status;
      const ops = [...inFlight, last, lastFailed];
      const op = ops.find((each) => each?.group === group && each.turn === turn);
      if (op?.callSite !== undefined) sites.set(rank, op.callSite);
      // Its call may have been noticed before it is in its record.
      return op?.callSite === undefined && !isOver(status);
    };
    if (!ranks.map(isDue).includes(true) || performance.now() > end) return sites;
  }
}
