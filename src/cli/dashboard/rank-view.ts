import type { RankRecord } from "../../status/index.ts";
import { endText, type StartedRank } from "../launcher/attempt-status.ts";
import { isFailure } from "../launcher/exit-code.ts";
import type { RankExit } from "../launcher/rank-process.ts";
import { LONG_MS, type Rates, rankRow } from "../top/rank-rows.ts";
import type { RankTone, RankView } from "./page/snapshot.ts";

interface RankFacts {
  /** Whether it has not called the collective that other ranks wait in. */
  readonly isMissing: boolean;
  readonly rates: Rates | undefined;
  /** How it ended; undefined while it runs. */
  readonly exit: RankExit | undefined;
}

/** A row of the table of ranks, in the words of `c10d top`. */
export function rankView(key: string, record: RankRecord, { isMissing, rates, exit }: RankFacts): RankView {
  const hasEnded = exit !== undefined || record.process === "gone";
  const { cells, waitedMs } = rankRow(record, isMissing, hasEnded ? undefined : rates);
  const [, , pid = "", state = "", op = "", since = "", opsPerSecond = "", bytesPerSecond = "", callSite = ""] = cells;
  return {
    ...{ key, rank: record.rank, host: record.host, pid, op, since, opsPerSecond, bytesPerSecond, callSite },
    tone: toneOf(exit, isMissing, hasEnded, waitedMs, record.pending === 0 && record.last?.hasFailed),
    state: exit === undefined ? state : endText(exit),
  };
}

/** A rank that has no process group, or none yet. */
export function unknownRank({ rank, pid, exit }: StartedRank): RankView {
  return {
    ...{ key: `${rank} ${pid}`, rank, host: "", pid: String(pid) },
    tone: toneOf(exit, false, exit !== undefined, 0),
    state: exit === undefined ? "no process group" : endText(exit),
    ...{ op: "", since: "", opsPerSecond: "", bytesPerSecond: "", callSite: "" },
  };
}

function toneOf(
  exit: RankExit | undefined,
  isMissing: boolean,
  hasEnded: boolean,
  waitedMs: number,
  hasFailed = false,
): RankTone {
  if (hasFailed || (exit !== undefined && isFailure(exit))) return "failed";
  if (isMissing) return "late";
  if (hasEnded) return "ended";
  return waitedMs >= LONG_MS ? "waiting" : "calm";
}
