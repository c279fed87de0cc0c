import type { DependencyContainer } from "tsyringe";
import type { TraceEntry } from "../../recorder/index.ts";
import { recorderOf } from "../../registry/index.ts";

/** Which rank a server is about. */
export interface ServedRank {
  readonly container: DependencyContainer;
  /** One of the ranks of the container; all of them without it. */
  readonly globalRank: number | undefined;
}

/** The ops of the rank, oldest first. */
export function entriesOf({ container, globalRank }: ServedRank, onlyActive: boolean): readonly TraceEntry[] {
  const entries = recorderOf(container).entries({ onlyActive });
  if (globalRank === undefined) return entries;
  return entries.filter(({ group }) => group.globalRanks[group.rank] === globalRank);
}
