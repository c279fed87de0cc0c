import { type BackendContext, scheduleOn } from "../../registry/index.ts";
import { CREATION, firstFailure } from "./failure-report.ts";

/** Most groups are made by then. */
const LOOK_INTERVAL_MS = 200;
/** A group that another rank made and that failed there can still be made here: its first op reports the failure. */
const MADE_GRACE_LOOKS = 5;
/** How long a call of the store may take. */
const LOOK_LIMIT_MS = 5_000;

/**
 * Polls whether another rank has given up making the group: native code that waits for a third rank does not notice
 * that. If so, calls `giveUp` once, unless disposed of first.
 */
export function watchCreation(
  { store, clock, size }: Pick<BackendContext, "store" | "clock" | "size">,
  giveUp: (reason: string) => void,
): Disposable {
  let isOver = false;
  let reportedLooks = 0;
  let timer: Disposable | undefined;
  const lookLater = (): void => {
    timer = scheduleOn(clock, LOOK_INTERVAL_MS, () => void look());
  };
  const look = async (): Promise<void> => {
    // A store that does not answer is reported by the calls that need its values.
    const report = await firstFailure(store, LOOK_LIMIT_MS).catch(() => undefined);
    if (isOver) return;
    if (report !== undefined) reportedLooks++;
    if (report?.op === CREATION) giveUp(`rank ${report.rank} has given up making the group`);
    else if (report !== undefined && reportedLooks > MADE_GRACE_LOOKS)
      giveUp(`the group has failed on rank ${report.rank}`);
    else lookLater();
  };
  if (size > 1) lookLater();
  return {
    [Symbol.dispose]: () => {
      isOver = true;
      timer?.[Symbol.dispose]();
    },
  };
}
