import { ranksText } from "../../errors/index.ts";
import { missingRanks, type OpStatus, opText, type RankRecord, type RecordedOp } from "../../status/index.ts";
import { durationText } from "../../time/index.ts";
import { endText, lineOf, type StartedRank } from "../launcher/attempt-status.ts";
import { isFailure } from "../launcher/exit-code.ts";
import { LONG_MS } from "../ranks/rank-row.ts";
import { closingsAmong, makingsAmong } from "./group-problems.ts";
import type { ProblemView } from "./page/snapshot.ts";
import { capital, SLOW_MS, type Wait, waitingText, waitsHead } from "./waiting-text.ts";

/** How many problems are reported; the rest follows from them. */
const MAX_PROBLEMS = 50;

/** One rank in one op. */
interface Call {
  readonly record: RankRecord;
  readonly op: RecordedOp;
}

/** What is wrong with a job, the likely cause first. */
export function problemsOf(records: readonly RankRecord[], started: readonly StartedRank[]): readonly ProblemView[] {
  const calls = records.flatMap((record) => record.ops.map((op) => ({ record, op })));
  const failures = failedAmong(calls, records);
  const desyncs = desyncsAmong(calls, failures);
  const desynced = new Set(desyncs.map(({ id }) => id));
  const isOther = ({ op }: Call) => !desynced.has(desyncId(op));
  return [
    ...desyncs,
    ...endsOf(started, records),
    ...failureProblems(failures.filter(isOther)),
    ...makingsAmong(records, started),
    ...waitsAmong(calls.filter(isOther), records),
    ...closingsAmong(records),
  ].slice(0, MAX_PROBLEMS);
}

const desyncId = ({ group, turn }: OpStatus): string => `desync ${group} ${turn}`;

/** Collectives that are not the same on all ranks, although it is the same turn of their group. */
function desyncsAmong(calls: readonly Call[], failures: readonly Call[]): ProblemView[] {
  const turns = Map.groupBy(
    calls.filter(({ op }) => op.turn > 0 && op.group !== undefined),
    ({ op }) => desyncId(op),
  );
  return [...turns].flatMap(([id, all]) => {
    const current = newestOfEach(all);
    const open = current.filter(({ op }) => op.ended === undefined || op.hasFailed);
    const began = Math.min(...open.map(({ op }) => op.began));
    // What ended before was of an earlier group of the same name.
    const same = current.filter(({ op }) => (op.ended ?? Number.POSITIVE_INFINITY) >= began);
    const [first] = same;
    if (open.length === 0 || first === undefined || same.every(({ op }) => op.op === first.op.op)) return [];
    const byName = [...Map.groupBy(same, ({ op }) => op.op)];
    const names = byName.map(([name, some]) => `${name} on ${ranksText(some.map(({ record }) => record.rank))}`);
    return [
      {
        ...{ id, kind: "desync", group: first.op.group, ranks: same.map(({ record }) => record.rank) },
        title: `Ranks call different collectives on group "${first.op.group}": ${names.join(", ")}`,
        detail: [...same.map(callLine), ...errorBlocks(failures.filter(({ op }) => desyncId(op) === id))].join("\n"),
      },
    ];
  });
}

/** A rank may have called it once more on a later group of the same name. */
function newestOfEach(calls: readonly Call[]): Call[] {
  return [...new Map(calls.map((call) => [call.record, call])).values()];
}

function endsOf(started: readonly StartedRank[], records: readonly RankRecord[]): ProblemView[] {
  return started.flatMap(({ rank, pid, exit, endedAt }) => {
    if (exit === undefined || !isFailure(exit)) return [];
    const own = records.filter((record) => record.pid === pid);
    const lines = own.map((record) => lineOf(record, `${endText(exit)}; `, endedAt));
    return [
      {
        ...{ id: `ended ${pid}`, kind: "ended", group: undefined, ranks: [rank] },
        title: `Rank ${rank} ${endText(exit)}`,
        detail: lines.length > 0 ? lines.join("\n") : `rank ${rank} (pid ${pid}) had not called initProcessGroup`,
      },
    ];
  });
}

/** Ops that have failed. The last failure of a rank may be older than the ops that its record still has. */
function failedAmong(calls: readonly Call[], records: readonly RankRecord[]): Call[] {
  const last = records.flatMap((record) =>
    record.lastFailed === undefined ? [] : [{ record, op: { ...record.lastFailed, number: -1 } }],
  );
  return [...calls, ...last].filter(({ op }) => op.hasFailed);
}

function failureProblems(failures: readonly Call[]): ProblemView[] {
  const ops = Map.groupBy(failures, ({ op }) => `failed ${op.op} ${op.group} ${op.turn || op.seq}`);
  return [...ops].map(([id, all]) => {
    const each = newestOfEach(all);
    const ranks = each.map(({ record }) => record.rank).sort((a, b) => a - b);
    const name = all[0] === undefined ? "" : opText(all[0].op);
    return {
      ...{ id, kind: "failed", group: all[0]?.op.group, ranks },
      title: `${name} failed on ${ranksText(ranks)}`,
      detail: [...each.map(failureLine), ...errorBlocks(each)].join("\n"),
    };
  });
}

function failureLine({ record, op }: Call): string {
  const site = op.callSite === undefined ? "" : `, called at ${op.callSite}`;
  return `rank ${record.rank} (pid ${record.pid}): failed ${durationText(record.at - (op.ended ?? record.at))} ago${site}`;
}

/** The errors of ops that failed, each once with the ranks that have it. */
function errorBlocks(failures: readonly Call[]): string[] {
  const withError = newestOfEach(failures).filter(
    ({ record, op }) => record.lastError !== undefined && op.began === record.lastFailed?.began,
  );
  const byText = Map.groupBy(withError, ({ record: { lastError = "" } }) => sharedText(lastError));
  return [...byText].map(([shared, some]) => {
    const ranks = some.map(({ record }) => record.rank).sort((a, b) => a - b);
    const text = some.length === 1 ? (some[0]?.record.lastError ?? shared) : shared;
    return `error on ${ranksText(ranks)}:\n${text.replace(/^/gm, "  ")}`;
  });
}

/** An error without the op, the rank and the lines of calls that it names, which are listed anyway. */
function sharedText(error: string): string {
  return error.replace(/^[^\n]*? \([^()]*, rank \d+ of \d+\): /, "").replace(/; called at [^;\n]*/, "");
}

function callLine({ record, op }: Call): string {
  const { rank, pid, at } = record;
  const site = op.callSite === undefined ? "" : `, called at ${op.callSite}`;
  const how =
    op.ended === undefined
      ? `in it for ${durationText(at - op.began)}`
      : `${op.hasFailed ? "failed" : "ended"} ${durationText(at - op.ended)} ago`;
  return `rank ${rank} (pid ${pid}): ${opText(op)}, ${how}${site}`;
}

/** Ops that have been pending for long: who is missing. Of each rank and group only the oldest counts. */
function waitsAmong(calls: readonly Call[], records: readonly RankRecord[]): ProblemView[] {
  const isLong = ({ record, op }: Call) =>
    op.ended === undefined && op.group !== undefined && record.process !== "gone" && record.at - op.began >= LONG_MS;
  const oldest = new Map<string, Call>();
  for (const call of calls.filter(isLong)) {
    const { record, op } = call;
    const key = `${record.rank} ${record.thread} ${op.group}`;
    const known = oldest.get(key);
    if (known === undefined || op.began < known.op.began) oldest.set(key, call);
  }
  const waits = Map.groupBy(oldest.values(), ({ record, op }) =>
    op.turn > 0 ? `wait ${op.group} ${op.turn}` : `wait ${op.group} ${record.rank} ${op.op} ${op.seq}`,
  );
  return [...waits].flatMap(([id, all]) => waitProblem(id, all, records) ?? []);
}

function waitProblem(id: string, calls: readonly Call[], records: readonly RankRecord[]): ProblemView | undefined {
  const [first] = [...calls].sort((a, b) => a.op.began - b.op.began);
  const group = first?.op.group;
  const standing = first?.record.groups.find(({ name }) => name === group);
  if (first === undefined || group === undefined || standing === undefined) return undefined;
  const { op } = first;
  const waiting = calls.map(({ record }) => record.rank).sort((a, b) => a - b);
  const members = new Map<number, RankRecord>();
  for (const record of records) {
    const place = record.groups.find(({ name }) => name === group);
    if (place !== undefined) members.set(place.rank, record);
  }
  // No rank has the number -1: nothing is known of it here.
  const globalRanks = Array.from({ length: standing.size }, (_, rank) => members.get(rank)?.rank ?? -1);
  const { missing, text } = missingRanks(
    {
      ...{ group, rank: standing.rank, globalRanks, peers: op.peer < 0 ? [] : [op.peer], haveLeft: false },
      ...{ began: op.began, turn: op.turn, hasWaited: true, head: waitsHead(waiting) },
    },
    new Map([...members.values()].map((record) => [record.rank, record])),
  );
  const forMs = first.record.at - op.began;
  if (missing.length === 0 && op.turn > 0 && forMs < SLOW_MS) return undefined;
  const late = missing.map((rank) => globalRanks[rank] ?? -1);
  const what = opText(op);
  const who = waitingText(calls.map(({ record, op: { began, callSite } }): Wait => ({ record, began, callSite })));
  return {
    ...{ id, kind: late.length > 0 ? "missing" : "slow", group, ranks: late.length > 0 ? late : waiting },
    title:
      late.length > 0
        ? `${capital(ranksText(late))} ${late.length === 1 ? "has" : "have"} not called ${what}`
        : `${what} does not end`,
    detail: text === "" ? who : `${who}\n${text}`,
  };
}
