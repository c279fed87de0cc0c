import type { RankRecord } from "../../status/index.ts";
import { endText, type StartedRank } from "../launcher/attempt-status.ts";
import { isFailure } from "../launcher/exit-code.ts";
import type { RankExit } from "../launcher/rank-process.ts";
import { hasEnded, LONG_MS, NOT_CALLED, rankRow, UNKNOWN_STATE } from "../ranks/rank-row.ts";
import type { Rates } from "../ranks/rates.ts";
import type { RankTone, RankView } from "./page/snapshot.ts";

interface RankFacts {
  /** Whether it has not called the collective that other ranks wait in. */
  readonly isMissing: boolean;
  /** Whether the launcher has ended it because of another one. */
  readonly isStopped: boolean;
  readonly rates: Rates | undefined;
  /** How it ended; undefined while it runs. */
  readonly exit: RankExit | undefined;
}

/** A row of the table of ranks, in the words of `c10d top`. */
export function rankView(key: string, record: RankRecord, { isMissing, isStopped, rates, exit }: RankFacts): RankView {
  const isOver = exit !== undefined || hasEnded(record);
  const { waitedMs, hasFailed, isMissing: _, ...row } = rankRow(record, isMissing, isOver ? undefined : rates);
  return {
    ...{ key, host: record.host, ...row },
    tone: toneOf(isStopped ? undefined : exit, isMissing, isOver, waitedMs, hasFailed),
    state: exit === undefined ? row.state : endText(exit),
  };
}

/** A rank that has no record: it has not called `initProcessGroup`. Others may wait for it. */
export function unknownRank({ rank, pid, exit }: StartedRank, isAwaited: boolean, isStopped: boolean): RankView {
  const isMissing = isAwaited && (exit === undefined || isStopped);
  return {
    ...{ key: `${rank} ${pid}`, rank, host: "", pid: String(pid) },
    tone: toneOf(isStopped ? undefined : exit, isMissing, exit !== undefined, 0),
    state: exit === undefined ? UNKNOWN_STATE : endText(exit),
    ...{ op: exit === undefined ? NOT_CALLED : "", since: "", opsPerSecond: "", bytesPerSecond: "", callSite: "" },
  };
}

function toneOf(
  exit: RankExit | undefined,
  isMissing: boolean,
  isOver: boolean,
  waitedMs: number,
  hasFailed = false,
): RankTone {
  if (hasFailed || (exit !== undefined && isFailure(exit))) return "failed";
  if (isMissing) return "late";
  if (isOver) return "ended";
  return waitedMs >= LONG_MS ? "waiting" : "calm";
}
