import { describe, InvalidArgumentError } from "../errors/index.ts";
import { ProcessGroup } from "../process-group/index.ts";
import { currentContext } from "./dist-context.ts";

/** Whether the default group exists. c10d: `is_initialized`. */
export function isInitialized(): boolean {
  return currentContext().world !== undefined;
}

/** Rank in a group, by default the default group; -1 for `null`, a group without this rank. c10d: `get_rank`. */
export function getRank(group?: ProcessGroup | null): number {
  return group === null ? -1 : memberOf(group).rank;
}

/** Number of ranks of a group, by default the default group; -1 for `null`. c10d: `get_world_size`. */
export function getWorldSize(group?: ProcessGroup | null): number {
  return group === null ? -1 : memberOf(group).size;
}

/**
 * Name of the backend of a group, by default the default group, e.g. `"gloo"`. c10d: `get_backend`.
 * @throws InvalidArgumentError for `null`, as in c10d.
 */
export function getBackend(group?: ProcessGroup): string {
  return memberOf(group).backendName();
}

/** Global rank of a group rank. c10d: `get_global_rank`. */
export function getGlobalRank(group: ProcessGroup, groupRank: number): number {
  const { globalRanks, name } = memberOf(group);
  const rank = Number.isInteger(groupRank) ? globalRanks[groupRank] : undefined;
  if (rank !== undefined) return rank;
  throw new InvalidArgumentError(`group rank ${groupRank} is not part of group "${name}"`, { group: name });
}

/** Group rank of a global rank. c10d: `get_group_rank`. */
export function getGroupRank(group: ProcessGroup, globalRank: number): number {
  return memberOf(group).groupRankOf(globalRank);
}

function memberOf(group: ProcessGroup | undefined): ProcessGroup {
  if (group === undefined) return currentContext().require().group;
  if (group instanceof ProcessGroup) return group;
  throw new InvalidArgumentError(
    `Invalid process group specified: it must be a group that this rank is in, got ${describe(group)}`,
    { argument: "group" },
  );
}
