import type { ProcessGroup } from "../../process-group/index.ts";
import { PrefixStore } from "../../store/index.ts";
import type { Store } from "../../store/store.ts";
import { currentContext } from "../dist-context.ts";

/**
 * A part of the job's store for one purpose of a group; only Bun ranks know of it. `undefined` for a group that was not
 * made by `initProcessGroup()`, `newGroup()` or the like, which has no store.
 */
export function groupStore(group: ProcessGroup, purpose: string): Store | undefined {
  const { world } = currentContext();
  if (world?.groups.get(group.name) !== group) return undefined;
  return new PrefixStore(`bun-c10d/${purpose}/${group.name}`, world.base);
}
