import { type ProcessState, seconds, stateText, whereText } from "../../status/index.ts";
import type { LoggedOp, LoggedOps } from "./op-log.ts";

/** Where a rank was when its time was up. */
export interface RankHang {
  /** In a sentence, e.g. `rank 2 was killed after 10 s: in allReduce #5 on group "0" (gloo) for 9.8 s`. */
  readonly text: string;
  /** Ops in flight, the oldest first, and for how many milliseconds. */
  readonly ops: readonly (LoggedOp & { readonly forMs: number })[];
  /** Op that ended last, and how many milliseconds earlier. */
  readonly last: (LoggedOp & { readonly agoMs: number }) | undefined;
  /** State of its process, if the system reports it. */
  readonly process: ProcessState | undefined;
}

/** @param killedAt Milliseconds since the epoch. */
export function describeHang(
  rank: number,
  log: LoggedOps | undefined,
  killed: { readonly at: number; readonly afterMs: number; readonly process: ProcessState | undefined },
): RankHang {
  const found = opsAt(log, killed.at);
  const where = whereText(found, "earlier") + stateText(killed.process, "was");
  const text = `rank ${rank} was killed after ${seconds(killed.afterMs)}: ${where}`;
  return { text, ...found, process: killed.process };
}

/** Describes in which op a rank is. @param now Milliseconds since the epoch. */
export function whereInOps(log: LoggedOps, now: number): string {
  return whereText(opsAt(log, now), "earlier");
}

function opsAt(log: LoggedOps | undefined, now: number): Pick<RankHang, "ops" | "last"> {
  const ops = (log?.inFlight ?? []).map((each) => ({ ...each, forMs: now - each.began }));
  return { ops, last: log?.last && { ...log.last, agoMs: now - log.last.at } };
}
