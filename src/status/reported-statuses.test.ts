import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RankStatus } from "./rank-status.ts";
import {
  ENDED_FILE,
  parseStatuses,
  REPORTED_FILE,
  readEnded,
  readReported,
  statusesText,
  writeEnded,
  writeReported,
} from "./reported-statuses.ts";
import { removeJob } from "./status-folder.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-reported-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const op = {
  ...{ op: "allReduce", seq: 3, group: "0", backend: "gloo", turn: 3, peer: -1, began: 900, ended: undefined },
  ...{ hasFailed: true, hasGivenUp: true, hasTimedOut: true, callSite: "train.ts:8:3" },
};
const status: RankStatus = {
  ...{
    rank: 5,
    worldSize: 8,
    world: 7,
    host: "b",
    pid: 77,
    thread: 0,
    program: "/x/train.ts",
    process: "stopped",
    openedAt: 5,
  },
  ...{ exitedAt: undefined, pending: 1, last: { ...op, ended: 950 }, lastFailed: undefined, begun: 4, failed: 0 },
  ...{
    bytes: 16,
    at: 1_000,
    inFlight: [op],
    groups: [{ name: "0", backend: "gloo", rank: 5, size: 8, turn: 3, made: 0 }],
  },
};

test("what a host reports arrives as it was, and is left for the ranks of another one", () => {
  const parsed = parseStatuses(statusesText([status]), 5_000);
  expect(parsed).toEqual([{ ...status, reportedAt: 5_000 }]);
  expect(readReported(folder)).toEqual([]);
  for (const statuses of [[], parsed]) {
    writeReported(folder, statuses);
    expect(readReported(folder)).toEqual(statuses);
  }
  expect(statSync(join(folder, REPORTED_FILE)).mode & 0o777).toBe(0o600);
  removeJob(folder);
  expect(statSync(folder, { throwIfNoEntry: false })).toBeUndefined();
});

test("nothing else is taken over from whoever can reach the store", () => {
  const parse = (value: unknown) => parseStatuses(JSON.stringify(value), 1);
  for (const value of [null, {}, "[]", [null], [[]], [{}], [{ rank: "1" }], [{ rank: 1.5 }]]) {
    expect(parse(value)).toEqual([]);
  }
  expect(parseStatuses("{", 1)).toEqual([]);
  expect(parseStatuses(`[${" ".repeat(9 * 2 ** 20)}]`, 1)).toEqual([]);
  const [odd] = parse([
    { rank: 1, host: "a\u001b[2J\nb", pid: "77", process: "dead", inFlight: [{ op: "x".repeat(900), turn: null }, 7] },
  ]);
  expect(odd).toMatchObject({ rank: 1, host: "a\\x1b[2J b", pid: 0, process: undefined, groups: [], last: undefined });
  expect(odd?.inFlight).toMatchObject([{ op: "x".repeat(300), turn: 0 }]);
  const many = parse([{ rank: 1, inFlight: Array(1_000).fill(op) }]);
  expect(many[0]?.inFlight).toHaveLength(64);
});

test("which ranks have ended without a record is left for the others, and goes with the job", () => {
  const ended: RankStatus = { ...status, openedAt: 0, process: "gone", exitedAt: 900, exitCode: 0 };
  writeEnded(folder, [ended]);
  expect(readEnded(folder)).toEqual([{ ...ended, at: expect.any(Number), reportedAt: undefined }]);
  expect(readReported(folder)).toEqual([]);
  removeJob(folder);
  expect(statSync(folder, { throwIfNoEntry: false })).toBeUndefined();
});

test.each([
  [REPORTED_FILE, readReported],
  [ENDED_FILE, readEnded],
] as const)("%s that is of the wrong form or too large is ignored, and blocks nobody", (name, read) => {
  const path = join(folder, name);
  for (const text of ["", "null", "{}", "[null, 5, [], {}]", '[{"rank":0.5}]']) {
    writeFileSync(path, text);
    expect(read(folder)).toEqual([]);
  }
  truncateSync(path, 3 * 2 ** 30);
  expect(read(folder)).toEqual([]);
  rmSync(path);
  Bun.spawnSync(["mkfifo", path]);
  expect(read(folder)).toEqual([]);
  (name === ENDED_FILE ? writeEnded : writeReported)(folder, [status]);
  expect(read(folder)).toHaveLength(1);
});

test("of more ranks than are read, as many are left as fit", () => {
  const long = { ...status, inFlight: Array.from({ length: 64 }, () => op) };
  writeReported(
    folder,
    Array.from({ length: 4_000 }, (_, rank) => ({ ...long, rank, reportedAt: 1 })),
  );
  const read = readReported(folder);
  expect(read.length).toBeGreaterThan(200);
  expect(read.map(({ rank }) => rank)).toEqual(Array.from(read, (_, rank) => rank));
});
