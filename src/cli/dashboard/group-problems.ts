import { DEFAULT_GROUP, ranksText } from "../../errors/index.ts";
import { hasNotMade, mayShareWorld, processState, type RankRecord, stateText } from "../../status/index.ts";
import { lineOf, type StartedRank } from "../launcher/attempt-status.ts";
import { hasEnded, LONG_MS, NOT_CALLED } from "../ranks/rank-row.ts";
import type { ProblemView } from "./page/snapshot.ts";
import { capital, SLOW_MS, type Wait, waitingText, waitsHead } from "./waiting-text.ts";

type Making = NonNullable<RankRecord["making"]>;

/** A rank that makes a group. */
interface Maker extends Wait {
  readonly making: Making;
}

/** A rank that has not called what makes a group, and what is known of it. */
interface Absent {
  readonly rank: number;
  readonly hasRecord: boolean;
  readonly text: string;
}

/** Groups that are not made: who has not called `initProcessGroup`, `newGroup` or `splitGroup`. */
export function makingsAmong(records: readonly RankRecord[], started: readonly StartedRank[]): ProblemView[] {
  const makers = records.flatMap((record): Maker[] => {
    const { making } = record;
    if (making === undefined || hasEnded(record) || record.closedAt !== undefined) return [];
    return [{ record, making, began: making.began, callSite: making.callSite }];
  });
  const groups = Map.groupBy(makers, ({ making: { parent, turn } }) => `make ${parent ?? ""} ${turn}`);
  return [...groups].flatMap(([id, all]) => makingProblem(id, all, records, started) ?? []);
}

function makingProblem(
  id: string,
  makers: readonly Maker[],
  records: readonly RankRecord[],
  started: readonly StartedRank[],
): ProblemView | undefined {
  const [first] = makers.toSorted((a, b) => a.began - b.began);
  if (first === undefined) return undefined;
  const { making, record } = first;
  const forMs = record.at - first.began;
  if (forMs < LONG_MS) return undefined;
  const absent = [...absentRecords(first, records), ...(making.turn === 0 ? absentProcesses(records, started) : [])];
  const byName = [...Map.groupBy(makers, (each) => each.making.maker)];
  const group = making.parent ?? DEFAULT_GROUP;
  const ranks = makers.map((each) => each.record.rank).sort((a, b) => a - b);
  const waiting = waitingText(makers);
  if (byName.length > 1) {
    const names = byName.map(([name, some]) => `${name} on ${ranksText(some.map((each) => each.record.rank))}`);
    return {
      ...{
        id,
        kind: "desync",
        group,
        ranks,
        title: `Ranks make different groups of group "${group}": ${names.join(", ")}`,
      },
      detail: byName.map(([name, some]) => `${name}\n${indented(waitingText(some))}`).join("\n"),
    };
  }
  const { maker } = making;
  if (absent.length === 0) {
    if (forMs < SLOW_MS) return undefined;
    const detail = `${waiting}\nall ranks that are known here have called it`;
    return { ...{ id, kind: "slow", group, ranks }, title: `${maker} does not end`, detail };
  }
  const missing = absent.map(({ rank }) => rank);
  const isOne = missing.length === 1;
  // In the rendezvous, one that has a record has called it: that failed.
  const hasCalled = making.turn === 0 && absent.some(({ hasRecord }) => hasRecord);
  const are = hasCalled ? `${isOne ? "is" : "are"} not in` : `${isOne ? "has" : "have"} not called`;
  return {
    ...{ id, kind: "missing", group, ranks: missing },
    title: `${capital(ranksText(missing))} ${are} ${maker}`,
    detail: `${waiting}\n${waitsHead(ranks)}${listText(absent.map(({ text }) => text))}`,
  };
}

function absentRecords({ record, making }: Maker, records: readonly RankRecord[]): Absent[] {
  const isAbsent = (other: RankRecord) => mayShareWorld(other, record) && hasNotMade(other, making);
  return records.filter(isAbsent).map((other) => ({ rank: other.rank, hasRecord: true, text: lineOf(other, "") }));
}

/** Processes that have not called `initProcessGroup`. */
function absentProcesses(records: readonly RankRecord[], started: readonly StartedRank[]): Absent[] {
  const isAbsent = ({ pid, exit }: StartedRank) =>
    exit === undefined && records.every((record) => record.reportedAt !== undefined || record.pid !== pid);
  return started.filter(isAbsent).map(({ rank, pid }) => {
    const state = stateText(processState(pid), "is");
    return { rank, hasRecord: false, text: `rank ${rank} (pid ${pid}): ${NOT_CALLED}${state}` };
  });
}

/** Groups that are not closed in time. */
export function closingsAmong(records: readonly RankRecord[]): ProblemView[] {
  const closings = records.flatMap((record) => {
    const { closing } = record;
    const isLong = closing !== undefined && record.pending === 0 && record.at - closing.began >= SLOW_MS;
    if (!isLong || hasEnded(record) || record.closedAt !== undefined) return [];
    return [{ record, group: closing.group, began: closing.began, callSite: undefined }];
  });
  return [...Map.groupBy(closings, ({ group }) => group)].map(([group, all]) => ({
    ...{ id: `close ${group}`, kind: "slow", group, ranks: all.map(({ record }) => record.rank) },
    title: `Closing ${group === undefined ? "a group" : `group "${group}"`} does not end`,
    detail: waitingText(all),
  }));
}

const listText = (lines: readonly string[]): string =>
  lines.length === 1 ? ` ${lines[0]}` : `\n${indented(lines.join("\n"))}`;

const indented = (text: string): string => text.replace(/^/gm, "  ");
