import { InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import { currentContext } from "./dist-context.ts";

/** Whether the default group exists. c10d: `is_initialized`. */
export function isInitialized(): boolean {
  return currentContext().world !== undefined;
}

/** Rank in a group, the default one if none is given; -1 for `null`, the group this rank is not in. c10d: `get_rank`. */
export function getRank(group?: ProcessGroup | null): number {
  return group === null ? -1 : (group ?? currentContext().require().group).rank;
}

/** Number of ranks of a group, the default one if none is given; -1 for `null`. c10d: `get_world_size`. */
export function getWorldSize(group?: ProcessGroup | null): number {
  return group === null ? -1 : (group ?? currentContext().require().group).size;
}

/** Name of the backend of a group, e.g. `"gloo"`. c10d: `get_backend`. */
export function getBackend(group?: ProcessGroup): string {
  return (group ?? currentContext().require().group).backendName();
}

/** Global rank of a rank of a group. c10d: `get_global_rank`. */
export function getGlobalRank(group: ProcessGroup, groupRank: number): number {
  const rank = group.globalRanks[groupRank];
  if (rank !== undefined) return rank;
  throw new InvalidArgumentError(`group rank ${groupRank} is not part of group "${group.name}"`, { group: group.name });
}

/** Rank in a group of a global rank. c10d: `get_group_rank`. */
export function getGroupRank(group: ProcessGroup, globalRank: number): number {
  return group.groupRankOf(globalRank);
}
