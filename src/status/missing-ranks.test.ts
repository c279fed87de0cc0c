import { describe, expect, test } from "bun:test";
import { missingAmong } from "./called-turns.ts";
import { missingMembers, missingRanks, possibleSenders } from "./missing-ranks.ts";
import type { OpStatus, RankStatus } from "./rank-status.ts";

const at = 1_000_000;

function op(name: string, seq: number, terms: Partial<OpStatus> = {}): OpStatus {
  const place = { group: "0", backend: "fake", turn: seq, peer: -1 };
  return {
    op: name,
    seq,
    ...place,
    began: at - 2_500,
    ended: undefined,
    hasFailed: false,
    callSite: undefined,
    ...terms,
  };
}

function status(rank: number, turn: number, terms: Partial<RankStatus> = {}): [number, RankStatus] {
  return [
    rank,
    {
      ...{
        rank,
        worldSize: 4,
        world: 7,
        host: "a",
        pid: 100 + rank,
        thread: 0,
        program: "",
        process: "sleeping",
        openedAt: 5,
      },
      ...{ exitedAt: undefined, inFlight: [], pending: 0, last: undefined, lastFailed: undefined },
      ...{ begun: turn, failed: 0, bytes: 0, at },
      groups: [{ name: "0", backend: "fake", rank, size: 4, turn, made: 0 }],
      ...terms,
    },
  ];
}

const question = {
  group: "0",
  rank: 0,
  globalRanks: [0, 1, 2, 3],
  peers: [] as number[],
  haveLeft: false,
  turn: 5,
  began: at - 9_000,
  hasWaited: true,
};

describe("the ranks that an op waits for", () => {
  test("are not those that wait in it themselves, even if the backend names them, unless their process is stopped", () => {
    const inIt = { inFlight: [op("allReduce", 5)], pending: 1 };
    const ask = (terms: Partial<RankStatus>) =>
      missingRanks({ ...question, peers: [1, 2] }, new Map([status(1, 4), status(2, 5, { ...inIt, ...terms })]));
    const waiting = ask({});
    expect(waiting).toMatchObject({ missing: [1], culprits: [1] });
    expect(waiting.text).toContain("rank 1 (pid 101)");
    expect(waiting.text).toEndWith("; rank 2 waits in it as well");
    expect(waiting.text).not.toContain("rank 2 (pid 102)");
    expect(ask({ process: "stopped" })).toMatchObject({ missing: [1], culprits: [1, 2] });
    expect(ask({ process: "stopped" }).text).toContain("rank 2 (pid 102)");
  });

  test("have closed their groups, or failed to make them", () => {
    const last = op("allReduce", 4, { ended: at - 1_300 });
    const closed = { last, closedAt: at - 1_200, exitedAt: at - 1_000, exitCode: 3, process: "gone" } as const;
    const failed = op("send", 2, { turn: 0, peer: 1, ended: at - 1_500, hasFailed: true, callSite: "train.ts:9:1" });
    const { missing, text } = missingRanks(
      { ...question, haveLeft: true, peers: [1, 2, 3] },
      new Map([
        status(1, 4, closed),
        status(2, 4, { last, lastFailed: failed, closedAt: at - 1_200 }),
        status(3, 0, { groups: [], closedAt: at - 1_200 }),
      ]),
    );
    expect(missing).toEqual([1, 2]);
    const line = 'closed its groups 1.2 s ago; the last op, allReduce #4 on group "0" (fake), ended 1.3 s ago';
    expect(text).toBe(
      "it waits for\n" +
        `  rank 1 (pid 101), which has not called it: ${line}; its process exited with code 3, 1 s ago\n` +
        `  rank 2 (pid 102), which has not called it: ${line}; before, send #2 to rank 1 on group "0" (fake) failed 1.5 s ago, called at train.ts:9:1\n` +
        "  rank 3 (pid 103): its initProcessGroup failed 1.2 s ago",
    );
  });

  test("are those that have not called it, whatever they do instead", () => {
    const last = op("broadcast", 4, { ended: at - 1_200 });
    const { missing, text } = missingRanks(
      question,
      new Map([
        status(0, 5),
        status(1, 4, { last, process: "stopped" }),
        status(2, 5, { inFlight: [op("allReduce", 5)], pending: 1 }),
        status(3, 4, { inFlight: [op("recv", 1, { turn: 0, peer: 2, callSite: "train.ts:8:3" })], pending: 1 }),
      ]),
    );
    expect(missing).toEqual([1, 3]);
    expect(text).toBe(
      "it waits for\n" +
        '  rank 1 (pid 101), which has not called it: in no op; the last, broadcast #4 on group "0" (fake), ended 1.2 s ago; its process is stopped\n' +
        '  rank 3 (pid 103), which has not called it: in recv #1 from rank 2 on group "0" (fake) for 2.5 s, called at train.ts:8:3',
    );
  });

  test("are also those that the backend names, by their ranks in the group", () => {
    const failed = op("allReduce", 5, { ended: at, hasFailed: true, callSite: "train.ts:9" });
    const { missing, text } = missingRanks(
      { group: "0", rank: 0, globalRanks: [2, 7], peers: [1], haveLeft: true, turn: 0, began: at, hasWaited: false },
      new Map([status(7, 5, { last: failed, process: "gone" })]),
    );
    expect(missing).toEqual([]);
    expect(text).toBe(
      'it waits for rank 1 (global rank 7) (pid 107): in no op; the last, allReduce #5 on group "0" (fake), failed 0 s ago, called at train.ts:9; its process has ended',
    );
  });

  test("that have left are described if they have ended or failed, since others say why they left", () => {
    const left = { ...question, peers: [1], haveLeft: true, turn: 0 };
    const last = op("broadcast", 4, { ended: at - 1_200 });
    expect(missingRanks(left, new Map([status(1, 4, { last })])).text).toBe("");
    expect(missingRanks(left, new Map([status(1, 4, { last, exitedAt: at - 500 })])).text).toEndWith(
      "ended 1.2 s ago; its process exited 0.5 s ago",
    );
    for (const terms of [{ closing: { group: "0", began: at - 300 } }, { groups: [] }] as const)
      expect(missingRanks(left, new Map([status(1, 4, { last, ...terms })])).text).toContain("rank 1 (pid 101): ");
    expect(missingRanks(left, new Map()).text).toBe("");
    expect(missingRanks({ ...left, turn: 5 }, new Map([status(1, 4)])).text).toContain("which has not called it");
  });

  test("may have no record", () => {
    expect(missingRanks({ ...question, peers: [3, 9] }, new Map()).text).toBe(
      "it waits for rank 3, which has no status record here: it is elsewhere, or its process had none",
    );
  });

  test("may be on other hosts: what these reported before the op began does not say whether they have called it", () => {
    const now = Date.now();
    const ask = (reportedAt: number) =>
      missingRanks({ ...question, began: now - 3_000 }, new Map([status(1, 4, { host: "b", reportedAt })]));
    expect(ask(now - 2_000)).toEqual({
      missing: [1],
      culprits: [1],
      text: expect.stringMatching(
        /^it waits for rank 1 \(pid 101 on b, 2(\.\d)? s ago\), which has not called it: in no op/,
      ),
    });
    expect(ask(now - 4_000)).toEqual({ missing: [], culprits: [], text: "" });
  });

  test("are none if all have called it", () => {
    const called = (ranks: readonly number[]) => new Map(ranks.map((rank) => status(rank, 5)));
    expect(missingRanks(question, called([1, 2, 3])).text).toBe("all other ranks have called it");
    expect(missingRanks(question, called([1, 2])).text).toBe("");
    expect(missingRanks({ ...question, turn: 0 }, called([1, 2, 3])).text).toBe("");
  });

  test("are not all described if they are many", () => {
    const globalRanks = Array.from({ length: 12 }, (_, rank) => rank);
    const statuses = new Map(globalRanks.map((rank) => status(rank, 0)));
    const lines = missingRanks({ ...question, globalRanks }, statuses).text.split("\n");
    expect([lines.length, lines.at(-1)]).toEqual([10, "  ranks 9, 10, 11"]);
  });
});

describe("the ranks that a new group waits for", () => {
  const making = { maker: "newGroup", parent: "0", turn: 2, began: at - 2_500, callSite: "train.ts:3:1" } as const;
  const made = (count: number) => [{ name: "0", backend: "fake", rank: 0, size: 4, turn: 0, made: count }];
  const inIt = status(0, 0, { making, groups: made(2) });
  const members = { ...making, rank: 0, globalRanks: [0, 1, 2, 3], peers: [] };

  test("are those that have made fewer groups of the same one, not those that have gone on", () => {
    const ranks = [inIt, status(1, 0, { groups: made(1) }), status(2, 0, { groups: made(3) })];
    expect(missingMembers(members, new Map(ranks))).toBe(
      "it waits for rank 1 (pid 101): in no op, and none had started",
    );
    expect([...missingAmong(new Map(ranks).values().toArray(), 1_000)].map(({ rank }) => rank)).toEqual([1]);
    expect(missingAmong(new Map(ranks).values().toArray(), 3_000).size).toBe(0);
  });

  test("are those that have no record or no group, for the default group of the same world", () => {
    const init = {
      maker: "initProcessGroup",
      parent: undefined,
      turn: 0,
      began: at - 2_500,
      callSite: undefined,
    } as const;
    const early = status(0, 0, { making: init, groups: [], world: 0 });
    const failed = status(2, 0, { groups: [], closedAt: at - 1_500 });
    const ranks = new Map([early, status(1, 0, { making: init, groups: [] }), failed]);
    expect(missingMembers({ ...members, ...init }, ranks)).toBe(
      "it waits for\n" +
        "  rank 2 (pid 102): its initProcessGroup failed 1.5 s ago\n" +
        "  rank 3, which has no status record here: it is elsewhere, or it has not called initProcessGroup",
    );
    const asLate = new Map([...ranks, status(2, 0, { groups: [], closedAt: at - 500 })]);
    expect(missingMembers({ ...members, ...init }, asLate)).toStartWith(
      "it waits for rank 3, which has no status record",
    );
    expect([...missingAmong([...ranks.values()], 1_000)].map(({ rank }) => rank)).toEqual([2]);
    const elsewhere = status(2, 0, { groups: [], worldSize: 9 })[1];
    expect(missingAmong([early[1], elsewhere], 1_000).size).toBe(0);
  });
});

describe("the ranks that may send what a recv from any waits for", () => {
  const group = (size: number) => ({ rank: 0, globalRanks: Array.from({ length: size }, (_, rank) => rank) });

  test("are all others, with what each is doing, and how many have no record", () => {
    const inIt = { inFlight: [op("allReduce", 5, { ended: undefined })], pending: 1 };
    expect(possibleSenders(group(4), new Map([status(1, 4), status(2, 5, inIt)]))).toBe(
      "it waits for a message from any rank:\n" +
        "  rank 1 (pid 101): in no op, and none had started\n" +
        '  rank 2 (pid 102): in allReduce #5 on group "0" (fake) for 2.5 s\n' +
        "  1 rank has no status record here",
    );
    expect(possibleSenders(group(2), new Map())).toBe("");
    expect(possibleSenders(group(2), new Map([status(0, 4), status(1, 4)]))).toContain("any rank: rank 1 (pid 101)");
  });

  test("are bounded in number, like those of a collective", () => {
    const ranks = new Map(Array.from({ length: 1_000 }, (_, rank) => status(rank, 4)));
    for (const text of [
      possibleSenders(group(1_000), ranks),
      missingRanks({ ...question, ...group(1_000) }, ranks).text,
    ]) {
      expect(text.split("\n")).toHaveLength(10);
      expect(text).toEndWith("\n  991 more ranks");
    }
    expect(possibleSenders(group(12), ranks)).toEndWith("\n  ranks 9, 10, 11");
  });
});
