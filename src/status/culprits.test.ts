import { describe, expect, test } from "bun:test";
import { culprits } from "./culprits.ts";
import type { OverdueOp } from "./missing-ranks.ts";
import type { OpStatus, RankStatus } from "./rank-status.ts";

/** The collective in question. */
const TURN = 5;

/** An op on the group: a collective of a place, or a message to a peer. */
const op = (terms: Partial<OpStatus>): OpStatus => ({
  ...{ op: "allReduce", seq: 1, group: "0", backend: "fake", turn: 0, peer: -1 },
  ...{ began: 0, ended: undefined, hasFailed: false, callSite: undefined },
  ...terms,
});

/** A rank that has called this many collectives. */
const at = (turn: number, terms: Partial<RankStatus> = {}): RankStatus => ({
  ...{ rank: 0, worldSize: 4, world: 7, host: "a", pid: 1, thread: 0, program: "", process: "sleeping", openedAt: 5 },
  ...{ exitedAt: undefined, inFlight: [], pending: 0, last: undefined, lastFailed: undefined },
  ...{ begun: turn, failed: 0, bytes: 0, at: 0 },
  groups: [{ name: "0", backend: "fake", rank: 0, size: 4, turn, made: 0 }],
  ...terms,
});
const idle = at(TURN - 1);
const inIt = at(TURN, { inFlight: [op({ turn: TURN })] });
const inEarlier = at(TURN - 1, { inFlight: [op({ turn: TURN - 1 })] });
const gaveUp = at(TURN, { last: op({ turn: TURN, hasFailed: true, hasGivenUp: true }) });
const aborted = at(TURN, { last: op({ turn: TURN, hasFailed: true }) });
const killed = { process: "gone" } as const;
const messageTo = (peer: number) => at(TURN - 1, { inFlight: [op({ peer })] });

/** Who is blamed by rank 0 of four, of which the records of ranks 1 to 3 say this. */
function ask(terms: Partial<OverdueOp>, ...records: readonly (RankStatus | undefined)[]): string {
  const question = { group: "0", rank: 0, globalRanks: [0, 1, 2, 3], peers: [], haveLeft: false, began: 0 };
  const { ranks, cleared } = culprits(
    { ...question, turn: TURN, hasWaited: true, ...terms },
    (rank) => records[rank - 1],
  );
  return cleared.length === 0 ? ranks.join() : `${ranks.join()} not ${cleared.join()}`;
}

describe("after a time-out", () => {
  test("all ranks that have not called the collective are to blame, not only those that the backend names", () => {
    expect(ask({ peers: [1] }, idle, idle, inIt)).toBe("1,2");
    expect(ask({ peers: [2] }, idle, idle, inIt)).toBe("1,2");
    expect(ask({}, idle, inIt, inIt)).toBe("1");
  });

  test("a rank that waits in it is not, nor is one that has given up waiting", () => {
    expect(ask({ peers: [2] }, idle, inIt, inIt)).toBe("1 not 2");
    expect(ask({ peers: [1, 3] }, idle, inIt, gaveUp)).toBe("1 not 3");
    expect(ask({ peers: [3] }, idle, inIt, { ...gaveUp, closedAt: 9, ...killed })).toBe("1 not 3");
  });

  test("a rank that was killed or stopped in it is", () => {
    expect(ask({ peers: [2] }, idle, { ...inIt, ...killed }, inIt)).toBe("1,2");
    expect(ask({ peers: [2] }, idle, { ...inIt, process: "stopped" }, inIt)).toBe("1,2");
  });

  test("this rank is not, unless it called it when the others had given up", () => {
    expect(ask({ peers: [0] }, idle, inIt, inIt)).toBe("1 not 0");
    expect(ask({ peers: [0], hasWaited: false }, idle, gaveUp, gaveUp)).toBe("0,1");
    expect(ask({ peers: [0], turn: 0 }, idle, gaveUp, gaveUp)).toBe("0");
  });

  test("a rank that waits for a missing one itself is not", () => {
    expect(ask({ peers: [2] }, inEarlier, idle, inIt)).toBe("2");
    expect(ask({ peers: [2] }, inEarlier, { ...inEarlier, process: "stopped" }, inIt)).toBe("2");
    expect(ask({ peers: [2] }, messageTo(2), idle, inIt)).toBe("2");
    expect(ask({ peers: [] }, messageTo(3), inIt, inIt)).toBe("1");
    expect(ask({ peers: [2] }, inEarlier, inEarlier, inIt)).toBe("2");
    // Nobody else can be.
    expect(ask({ peers: [] }, inEarlier, inIt, inIt)).toBe("1");
    expect(ask({ peers: [] }, messageTo(2), messageTo(1), inIt)).toBe("1,2");
  });

  test("those that the backend names are, if the records prove nothing", () => {
    expect(ask({ peers: [2] }, inIt, inIt, inIt)).toBe("2");
    expect(ask({ peers: [2] }, undefined, undefined, undefined)).toBe("2");
    expect(ask({ peers: [2] }, idle, undefined, inIt)).toBe("1,2");
  });
});

describe("after a loss", () => {
  test("others that have not called the collective may just be slower", () => {
    expect(ask({ peers: [1], haveLeft: true }, { ...idle, ...killed }, idle, inIt)).toBe("1");
    expect(ask({ peers: [1], haveLeft: true }, aborted, idle, inIt)).toBe("1");
  });

  test("all ranks that have not called it are to blame if another one has timed out in it", () => {
    const timedOut = at(TURN, { last: op({ turn: TURN, hasFailed: true, hasGivenUp: true, hasTimedOut: true }) });
    expect(ask({ peers: [1], haveLeft: true }, idle, idle, timedOut)).toBe("1,2");
    expect(ask({ peers: [1], haveLeft: true }, idle, idle, gaveUp)).toBe("1");
    expect(ask({ peers: [1], haveLeft: true }, { ...idle, ...killed }, idle, timedOut)).toBe("1");
    expect(ask({ peers: [3], haveLeft: true }, idle, idle, timedOut)).toBe("1,2 not 3");
  });

  test("a rank that has left because it had given up is not to blame, but the one that it waited for", () => {
    expect(ask({ peers: [2], haveLeft: true }, idle, gaveUp, inIt)).toBe("1 not 2");
    expect(ask({ peers: [2], haveLeft: true }, idle, inIt, inIt)).toBe("1 not 2");
    expect(ask({ peers: [2], haveLeft: true }, idle, gaveUp, { ...idle, ...killed })).toBe("3 not 2");
  });
});
