import { describe, expect, test } from "bun:test";
import type { RankRecord } from "../../status/index.ts";
import type { StartedRank } from "../launcher/attempt-status.ts";
import { at, record } from "./fixtures/records.ts";
import { problemsOf } from "./problems.ts";

const init = {
  maker: "initProcessGroup",
  parent: undefined,
  turn: 0,
  began: at - 2_500,
  callSite: "a.ts:3:1",
} as const;
const split = { maker: "splitGroup", parent: "0", turn: 2, began: at - 2_500, callSite: "a.ts:5:1" } as const;

const groups = (rank: number, made: number) => [{ name: "0", backend: "fake", rank, size: 3, turn: 0, made }];
const titles = (records: readonly RankRecord[], started: readonly StartedRank[] = []): readonly string[] =>
  problemsOf(records, started).map(({ kind, title }) => `${kind}: ${title}`);
/** No process has this number. */
const process = (rank: number): StartedRank => ({ rank, pid: 2 ** 30 + rank, exit: undefined });

describe("a rendezvous", () => {
  test("is a problem after a second, with who has not come and who waits where", () => {
    const waits = [0, 2].map((rank) => record(rank, 0, [], { making: init, groups: [], world: 0 }));
    const [problem, ...others] = problemsOf(waits, [process(1)]);
    expect(others).toEqual([]);
    expect(problem).toEqual({
      ...{ id: "make  0", kind: "missing", group: "0", ranks: [1], title: "Rank 1 has not called initProcessGroup" },
      detail:
        "ranks 0, 2: in it for 2.5 s, called at a.ts:3:1\n" +
        `they wait for rank 1 (pid ${2 ** 30 + 1}): has not called initProcessGroup; its process has ended`,
    });
    const fresh = waits.map((each) => ({ ...each, making: { ...init, began: at - 900 } }));
    expect(titles(fresh, [process(1)])).toEqual([]);
  });

  test("has each place of the call, and also the ranks whose own has failed", () => {
    const other = { ...init, began: at - 1_500, callSite: "b.ts:1:1" };
    const waits = [init, other].map((making, rank) => record(rank, 0, [], { making, groups: [] }));
    const failed = record(2, 0, [], { groups: [], closedAt: at - 500 });
    const [problem] = problemsOf([...waits, failed], []);
    expect(problem?.title).toBe("Rank 2 is not in initProcessGroup");
    expect(problem?.detail).toBe(
      "rank 0: in it for 2.5 s, called at a.ts:3:1\n" +
        "rank 1: in it for 1.5 s, called at b.ts:1:1\n" +
        "they wait for rank 2 (pid 102): its initProcessGroup failed 0.5 s ago",
    );
  });

  test("to which all have come is slow only after five seconds", () => {
    const waits = (ms: number) =>
      [0, 1, 2].map((rank) => record(rank, 0, [], { making: { ...init, began: at - ms }, groups: [] }));
    expect(titles(waits(4_900))).toEqual([]);
    expect(titles(waits(5_100))).toEqual(["slow: initProcessGroup does not end"]);
  });
});

describe("a group that is being made", () => {
  test("misses those that have made fewer of the same group, not those that have gone on", () => {
    const records = [
      record(0, 0, [], { making: split, groups: groups(0, 2) }),
      record(1, 0, [], { groups: groups(1, 1) }),
      record(2, 0, [], { groups: groups(2, 2) }),
    ];
    expect(titles(records)).toEqual(["missing: Rank 1 has not called splitGroup"]);
    expect(problemsOf(records, [])[0]?.detail).toContain(
      "rank 0 waits for rank 1 (pid 101): in no op, and none had started",
    );
  });

  test("may be another one on each rank", () => {
    const records = [
      record(0, 0, [], { making: split, groups: groups(0, 2) }),
      record(1, 0, [], { making: { ...split, maker: "newGroup" }, groups: groups(1, 2) }),
    ];
    expect(titles(records)).toEqual([
      'desync: Ranks make different groups of group "0": splitGroup on rank 0, newGroup on rank 1',
    ]);
  });

  test("is no problem on a rank that has ended", () => {
    const gone = record(0, 0, [], { making: split, groups: groups(0, 2), process: "gone" });
    expect(titles([gone, record(1, 0, [], { groups: groups(1, 1) })])).toEqual([]);
  });
});

test("a group that is being closed is slow after five seconds", () => {
  const closing = (ms: number) => [record(1, 0, [], { closing: { group: "0", began: at - ms } })];
  expect(titles(closing(4_000))).toEqual([]);
  expect(titles(closing(6_000))).toEqual(['slow: Closing group "0" does not end']);
});
