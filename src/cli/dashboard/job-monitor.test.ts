import { expect, test } from "bun:test";
import { parseStatuses, type RankRecord, statusesText } from "../../status/index.ts";
import type { StartedRank } from "../launcher/attempt-status.ts";
import { at, op, over, record } from "./fixtures/records.ts";
import { JobMonitor } from "./job-monitor.ts";

const job = {
  ...{ id: "j", command: [process.execPath, "/work/train.ts"], worldSize: 3, node: 0, nnodes: 1 },
  startedAt: at - 60_000,
};
const started: StartedRank[] = [0, 1, 2].map((rank) => ({ rank, pid: 100 + rank, exit: undefined }));
const exit = (rank: number, exitCode: number): StartedRank => ({
  ...{ rank, pid: 100 + rank },
  exit: { rank, pid: 100 + rank, exitCode, signal: undefined, elapsedMs: 9 },
});

function watched(records: () => readonly RankRecord[], ranks: () => readonly StartedRank[] = () => started) {
  const monitor = new JobMonitor(job);
  const reader = { cursor: 0, omitted: 0 };
  monitor.watch({ attempt: 0, records, started: ranks });
  const look = () => {
    monitor.look();
    return monitor.snapshotFor(reader);
  };
  return { monitor, look };
}

test("ranks are shown from their start, with rates once there is a second of them", () => {
  let records: RankRecord[] = [];
  const { look } = watched(() => records);
  expect(look()).toMatchObject({
    job: { program: "train.ts", id: "j", worldSize: 3, opsPerSecond: "" },
    ranks: [0, 1, 2].map((rank) => ({ rank, state: "not started", tone: "calm" })),
    ...{ problems: [], ops: [], end: undefined },
  });
  records = [0, 1, 2].map((rank) => record(rank, 1, [over("barrier", 1)], { begun: 1 }));
  expect(look().ranks[1]).toMatchObject({ op: 'after barrier #1 on group "0"', opsPerSecond: "", since: "3.9 s ago" });
  records = records.map((each) => ({ ...each, at: at + 2_000, begun: 401, bytes: 6_000_000 }));
  const { job: now, ranks } = look();
  expect(now).toMatchObject({ opsPerSecond: "600", bytesPerSecond: "9.0 MB" });
  expect(ranks[0]).toMatchObject({ opsPerSecond: "200", bytesPerSecond: "3.0 MB" });
});

test("a record that is gone is shown as it was last seen, until the job is restarted", () => {
  let records = [record(0, 1, [over("barrier", 1)]), record(1, 1, [op("allReduce", 1)], { pid: 101 })];
  let ranks = started;
  const { monitor, look } = watched(
    () => records,
    () => ranks,
  );
  expect(look().ranks[1]).toMatchObject({ tone: "waiting", state: "in op" });
  records = records.slice(0, 1);
  ranks = [exit(0, 0), exit(1, 3), exit(2, 0)];
  expect(look().ranks).toMatchObject([
    { rank: 0, state: "exited with code 0", tone: "ended" },
    { rank: 1, state: "exited with code 3", tone: "failed", op: 'allReduce #1 on group "0"' },
    { rank: 2, state: "exited with code 0", tone: "ended" },
  ]);
  monitor.watch({ attempt: 1, records: () => [], started: () => started });
  expect(look()).toMatchObject({ job: { attempt: 1 }, ranks: [{ state: "not started" }, {}, {}], problems: [] });
});

test("what follows from the end of an attempt is no problem", () => {
  let ranks = started;
  const records = [record(0, 2, [op("allReduce", 2)]), record(1, 1, [over("barrier", 1)])];
  const { monitor, look } = watched(
    () => records,
    () => ranks,
  );
  look();
  monitor.freeze();
  ranks = [exit(0, 143), exit(1, 143), exit(2, 143)];
  monitor.report("it timed out\n");
  monitor.end(124);
  const { problems, ranks: shown, report, end } = look();
  expect(problems.map(({ title }) => title)).toEqual(['Rank 1 has not called allReduce #2 on group "0" (fake)']);
  expect(shown.map(({ state }) => state)).toEqual(Array.from({ length: 3 }, () => "exited with code 143"));
  // Only rank 1 is to blame, although the launcher has ended all.
  expect(shown.map(({ tone }) => tone)).toEqual(["ended", "late", "ended"]);
  expect([report, end]).toEqual(["it timed out", { exitCode: 124 }]);
});

test("what another node reports is shown by the clock of this one", () => {
  const near = record(0, 2, [op("allReduce", 2)]);
  const { monitor, look } = watched(() => [near]);
  const behind = 50_000;
  const far = record(2, 1, [over("barrier", 1, { began: at - behind - 4_000, ended: at - behind - 3_900 })], {
    ...{ at: at - behind, host: "b", pid: 7 },
  });
  monitor.hear(parseStatuses(statusesText([far]), at + 100));
  const { ranks, problems, ops } = look();
  expect(ranks.find(({ rank }) => rank === 2)).toMatchObject({ host: "b", tone: "late", since: "3.9 s ago" });
  expect(problems).toMatchObject([{ kind: "missing", ranks: [2] }]);
  expect(ops.filter(({ rank }) => rank === 2)).toMatchObject([{ began: at + 100 - 4_000, ended: at + 100 - 3_900 }]);
  // The same op in a later report is no other one.
  monitor.hear(parseStatuses(statusesText([far]), at + 130));
  expect(new Set([...ops, ...look().ops].map(({ id }) => id)).size).toBe(2);
});
