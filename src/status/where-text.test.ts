import { expect, test } from "bun:test";
import type { OpStatus, RankStatus } from "./rank-status.ts";
import { statusText } from "./where-text.ts";

const at = 1_000_000;
const op = (seq: number, terms: Partial<OpStatus> = {}): OpStatus => ({
  ...{ op: "allReduce", seq, group: "0", backend: "fake", turn: seq, peer: -1, began: at - 5_000 },
  ...{ ended: undefined, hasFailed: false, callSite: undefined },
  ...terms,
});
const text = (terms: Partial<RankStatus>): string =>
  statusText({
    ...{ rank: 1, worldSize: 2, world: 7, host: "a", pid: 9, thread: 0, program: "", process: "sleeping", openedAt: 5 },
    ...{ exitedAt: undefined, groups: [], inFlight: [], pending: 0, last: undefined, lastFailed: undefined },
    ...{ begun: 0, failed: 0, bytes: 0, at },
    ...terms,
  });

const name = (seq: number) => `allReduce #${seq} on group "0" (fake)`;
const failed = op(2, { ended: at - 4_500, hasFailed: true });
const exit = { exitedAt: at - 4_000, exitCode: 0 } as const;
const making = { maker: "newGroup", parent: "0", turn: 1, began: at - 5_000, callSite: undefined } as const;

test.each<[string, Partial<RankStatus>, string]>([
  ["in an op", { inFlight: [op(3)] }, `in ${name(3)} for 5 s`],
  [
    "that exited in an op, whose time has stopped",
    { inFlight: [op(3)], ...exit },
    `when it exited, in ${name(3)} for 1 s; its process exited with code 0, 4 s ago`,
  ],
  [
    "that exited when one of its ops had failed, before it saw the others fail",
    { inFlight: [op(3), op(4)], last: failed, ...exit },
    `when it exited, in ${name(3)} for 1 s, in ${name(4)} for 1 s; before, ${name(2)} failed; its process exited with code 0, 4 s ago`,
  ],
  [
    "that was killed in an op",
    { inFlight: [op(3)], process: "gone" },
    `in ${name(3)}, begun 5 s ago; its process has ended`,
  ],
  [
    "that exited while it made a group",
    { making, ...exit },
    "when it exited, in newGroup for 1 s; its process exited with code 0, 4 s ago",
  ],
  [
    "that exited after its ops",
    { last: failed, ...exit },
    `in no op; the last, ${name(2)}, failed 4.5 s ago; its process exited with code 0, 4 s ago`,
  ],
  [
    "that has ended without a record",
    { openedAt: 0, process: "gone", ...exit },
    "it had not called initProcessGroup; its process exited with code 0, 4 s ago",
  ],
])("a rank %s", (_, terms, expected) => {
  expect(text(terms)).toBe(expected);
});
