import { processState } from "./process-state.ts";
import type { RankStatus } from "./rank-status.ts";

/** How often a process that runs is looked at again, and the time between two looks. */
const LOOKS = 3;
const LOOK_MS = 15;

/**
 * The same with states of processes that last: one that was woken just now, for example by the failure of its group, is
 * back asleep when it is looked at again, one in a loop is not. Blocks for 45 ms if a process runs.
 */
export function withLastingStates(statuses: readonly RankStatus[]): readonly RankStatus[] {
  let current = statuses;
  for (let look = 0; look < LOOKS && current.some(isRunning); look++) {
    Bun.sleepSync(LOOK_MS);
    current = current.map((status) => (isRunning(status) ? { ...status, process: processState(status.pid) } : status));
  }
  return current;
}

/** The caller itself runs, of course; what another host reports cannot be looked at. */
function isRunning({ process: state, pid, reportedAt }: RankStatus): boolean {
  return state === "running" && reportedAt === undefined && pid !== process.pid;
}
