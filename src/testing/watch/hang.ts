import { type ProcessState, type RankStatus, seconds, stateText, whereText } from "../../status/index.ts";
import type { LoggedOp, LoggedOps } from "./op-log.ts";

/** Where a rank was when its time was up. */
export interface RankHang {
  /** In a sentence, e.g. `rank 2 was killed after 10 s: in allReduce #5 on group "0" (gloo) for 9.8 s`. */
  readonly text: string;
  /** Ops in flight, the oldest first, and for how many milliseconds. */
  readonly ops: readonly (LoggedOp & { readonly forMs: number; readonly callSite?: string | undefined })[];
  /** Op that ended last, and how many milliseconds earlier. */
  readonly last: (LoggedOp & { readonly agoMs: number }) | undefined;
  /** State of its process, if the system reports it. */
  readonly process: ProcessState | undefined;
}

/** A rank that was killed because the time of its job was up. */
export interface KilledRank {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly afterMs: number;
  readonly process: ProcessState | undefined;
  /** Its status record at that time, which knows where its ops were called. */
  readonly status?: RankStatus | undefined;
}

export function describeHang(rank: number, log: LoggedOps | undefined, killed: KilledRank): RankHang {
  const { ops, last } = opsAt(log, killed.at);
  const recorded = killed.status?.inFlight ?? [];
  const siteOf = ({ group, seq }: LoggedOp) => recorded.find((op) => op.group === group && op.seq === seq)?.callSite;
  const found = { ops: ops.map((op) => ({ ...op, callSite: siteOf(op) })), last };
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
