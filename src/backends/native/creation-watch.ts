import { type BackendContext, scheduleOn } from "../../registry/index.ts";
import { CREATION, firstFailure } from "./failure-report.ts";

/** Most groups are made by then. */
const LOOK_INTERVAL_MS = 200;
/** Where the group was made on a rank and has failed there since, this one can have it too, and its first op tells why it failed. */
const MADE_GRACE_LOOKS = 5;
/** How long a store may take to tell. */
const LOOK_LIMIT_MS = 5_000;

/**
 * Looks from time to time whether another rank has given up making the group, since native code that still waits for somebody
 * else does not notice that. Calls `giveUp` once if so, unless it is disposed of before.
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
    // A store that does not answer is noticed by those who need its values.
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
