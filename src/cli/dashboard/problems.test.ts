import { describe, expect, test } from "bun:test";
import type { RankRecord } from "../../status/index.ts";
import type { StartedRank } from "../launcher/attempt-status.ts";
import { at, op, over, record } from "./fixtures/records.ts";
import { problemsOf } from "./problems.ts";

const titles = (records: readonly RankRecord[], started: readonly StartedRank[] = []): readonly string[] =>
  problemsOf(records, started).map(({ kind, title }) => `${kind}: ${title}`);

describe("a job has no problem", () => {
  test("while ranks are in ops that are new, or have ended", () => {
    const fresh = { began: at - 500 };
    expect(
      titles([record(0, 2, [over("barrier", 1), op("allReduce", 2, fresh)]), record(1, 1, [over("barrier", 1)])]),
    ).toEqual([]);
  });

  test("while all ranks are in an op that is not yet slow", () => {
    expect(titles([0, 1, 2].map((rank) => record(rank, 1, [op("allReduce", 1)])))).toEqual([]);
    const slow = { began: at - 9_000 };
    expect(titles([0, 1, 2].map((rank) => record(rank, 1, [op("allReduce", 1, slow)])))).toEqual([
      'slow: allReduce #1 on group "0" (fake) does not end',
    ]);
  });

  test("when a group has the name of an earlier one", () => {
    const before = over("broadcast", 1, { began: at - 9_000, ended: at - 8_000 });
    const records = [record(0, 1, [over("broadcast", 1), op("allReduce", 1)]), record(1, 1, [before])];
    expect(titles(records)).toEqual([]);
  });
});

test("who is late is named, with what it did last and who waits", () => {
  const waits = { began: at - 2_500, callSite: "train.ts:8:3" };
  const problems = problemsOf(
    [
      record(0, 2, [op("allReduce", 2, waits), op("barrier", 3, { began: at - 2_000 })]),
      record(1, 1, [over("broadcast", 1, { ended: at - 2_600 })], { process: "stopped" }),
      record(2, 2, [op("allReduce", 2, waits)]),
    ],
    [],
  );
  expect(problems).toEqual([
    {
      ...{ id: "wait 0 2", kind: "missing", group: "0", ranks: [1] },
      title: 'Rank 1 has not called allReduce #2 on group "0" (fake)',
      detail:
        "ranks 0, 2: in it for 2.5 s, called at train.ts:8:3\n" +
        'they wait for rank 1 (pid 101), which has not called it: in no op; the last, broadcast #1 on group "0" (fake),' +
        " ended 2.6 s ago; its process is stopped",
    },
  ]);
});

test("a message that does not come is slow, and its peer is described", () => {
  const recv = op("recv", 0, { seq: 4, peer: 2 });
  const [problem, ...others] = problemsOf([record(0, 0, [recv]), record(2, 0, [])], []);
  expect(others).toEqual([]);
  expect(problem).toMatchObject({
    kind: "slow",
    title: 'recv #4 from rank 2 on group "0" (fake) does not end',
    detail: expect.stringContaining("rank 0 waits for rank 2 (pid 102): in no op, and none had started"),
  });
});

describe("a desync", () => {
  const fails = { ended: at - 1_000, hasFailed: true, callSite: "train.ts:9:1" };
  const error = (rank: number, name: string, sites: string) =>
    `${name} #3 on group "0" (fake, rank ${rank} of 3): rank 0 called a, rank 1 called b.\nCall the same; called at ${sites}`;

  test("comes first, with the calls and the failures that follow from it, and each error once", () => {
    const records = [
      record(0, 3, [op("allReduce", 3, fails)], { lastError: error(0, "allReduce", "x on rank 0") }),
      record(1, 3, [op("broadcast", 3, fails)], { lastError: error(1, "broadcast", "x on rank 0, y on rank 1") }),
      record(2, 3, [op("allReduce", 3)]),
    ];
    expect(titles(records)).toEqual([
      'desync: Ranks call different collectives on group "0": allReduce on ranks 0, 2, broadcast on rank 1',
    ]);
    expect(problemsOf(records, [])[0]?.detail).toBe(
      'rank 0 (pid 100): allReduce #3 on group "0" (fake), failed 1 s ago, called at train.ts:9:1\n' +
        'rank 1 (pid 101): broadcast #3 on group "0" (fake), failed 1 s ago, called at train.ts:9:1\n' +
        'rank 2 (pid 102): allReduce #3 on group "0" (fake), in it for 3 s\n' +
        "error on ranks 0, 1:\n  rank 0 called a, rank 1 called b.\n  Call the same",
    );
  });

  test("does not hide other failures, whose errors are told apart", () => {
    const lost = { began: at - 2_000, ended: at - 20, hasFailed: true };
    const records = [
      record(0, 3, [op("barrier", 2, fails), op("allReduce", 3, lost)], { lastError: "a" }),
      record(1, 3, [op("broadcast", 3, lost)], { lastError: "a" }),
      record(2, 2, [op("barrier", 2, lost)], { lastError: "b\nc" }),
    ];
    expect(titles(records).slice(1)).toEqual(['failed: barrier #2 on group "0" (fake) failed on ranks 0, 2']);
    const [desync, failure] = problemsOf(records, []);
    expect(desync?.detail).toContain("\nerror on ranks 0, 1:\n  a");
    expect(failure?.detail).toBe(
      "rank 0 (pid 100): failed 1 s ago, called at train.ts:9:1\n" +
        "rank 2 (pid 102): failed 20 ms ago\nerror on rank 2:\n  b\n  c",
    );
  });

  test("is found when one rank has gone on", () => {
    const records = [record(0, 1, [op("barrier", 1)]), record(1, 1, [over("broadcast", 1, { ended: at - 2_000 })])];
    expect(titles(records)).toEqual([
      'desync: Ranks call different collectives on group "0": barrier on rank 0, broadcast on rank 1',
    ]);
  });
});

test("a rank that has ended badly is named with what it was doing", () => {
  const exit = { rank: 1, pid: 101, exitCode: undefined, signal: "SIGKILL" as const, elapsedMs: 9 };
  const started: StartedRank[] = [
    { rank: 0, pid: 100, exit: { ...exit, rank: 0, pid: 100, exitCode: 0, signal: undefined } },
    { rank: 1, pid: 101, exit, endedAt: at - 1_000 },
    { rank: 2, pid: 102, exit: { ...exit, rank: 2, pid: 102, exitCode: 3, signal: undefined } },
  ];
  const problems = problemsOf([record(1, 1, [op("barrier", 1)], { process: "gone" })], started);
  expect(problems.map(({ title, detail }) => [title, detail])).toEqual([
    [
      "Rank 1 ended by SIGKILL",
      'rank 1 (pid 101): ended by SIGKILL; when it exited, in barrier #1 on group "0" (fake) for 2 s',
    ],
    ["Rank 2 exited with code 3", "rank 2 (pid 102) had not called initProcessGroup"],
  ]);
});
