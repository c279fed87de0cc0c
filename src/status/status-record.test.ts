import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, symlinkSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OpType } from "../collectives/index.ts";
import { captureCallSite, DistError } from "../errors/index.ts";
import { serveBlocked, Work } from "../work/index.ts";
import type { GroupStatus } from "./group-status.ts";
import { GROUPS, Header, SLOTS, Slot, slotAt } from "./record-layout.ts";
import { readRecord, readStatus } from "./status-reader.ts";
import { StatusRecord } from "./status-record.ts";

let folder: string;
let path: string;
let record: StatusRecord;
let group: GroupStatus;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "c10d-status-"));
  path = join(folder, "rank-3");
  record = StatusRecord.create(path, 3, 4);
  group = record.group({ name: "pair", backends: ["gloo", "nccl"], rank: 1, size: 2 });
});
afterEach(() => {
  record.close();
  rmSync(folder, { recursive: true });
});

class Pending extends Work<void> {
  protected override block(): void {}
}

const pending = (seq = -1, opType = OpType.ALLREDUCE) => new Pending({ opType, seq });

function begin(work: Work<unknown>, began = performance.now(), callSite = captureCallSite()): number {
  return group.begin(work, work.opType, false, -1, began, 100, callSite);
}

function read() {
  const status = readStatus(path);
  if (status === undefined) throw new Error("no record");
  return status;
}

describe("a record", () => {
  test("says who the rank is, and is for this user alone", () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(read()).toMatchObject({
      ...{ rank: 3, worldSize: 4, pid: process.pid, thread: 0, process: expect.any(String), exitedAt: undefined },
      ...{ inFlight: [], pending: 0, last: undefined, begun: 0, failed: 0, bytes: 0 },
      groups: [{ name: "pair", backend: "gloo or nccl", rank: 1, size: 2, turn: 0 }],
    });
  });

  test("counts the collectives that all ranks call: neither messages nor batches, of which the parts count", () => {
    for (const opType of [OpType.COALESCED, OpType.SEND]) {
      group.beginWhole(pending(-1, opType), "coalescing", opType, -1, performance.now(), undefined);
      group.skip(opType);
    }
    expect(read().groups).toMatchObject([{ turn: 0 }]);
    begin(pending());
    group.skip(OpType.BARRIER);
    expect(read().groups).toMatchObject([{ turn: 2 }]);
  });

  test("has the ops in flight, the one that ended last, and the one that failed last", () => {
    const [first, second, message] = [pending(7), pending(8), pending(1, OpType.RECV)];
    const [a, b] = [begin(first, performance.now() - 50), begin(second)];
    group.begin(message, OpType.RECV, true, 0, performance.now(), 4, undefined);
    const { inFlight, groups, bytes } = read();
    expect(inFlight).toMatchObject([
      { op: "allReduce", seq: 7, turn: 1, group: "pair", backend: "gloo or nccl", ended: undefined, hasFailed: false },
      { op: "allReduce", seq: 8, turn: 2 },
      { op: "recv", seq: 1, turn: 0, peer: 0 },
    ]);
    expect([groups[0]?.turn, bytes]).toEqual([2, 204]);
    expect(record.turnOf(second)).toBe(2);
    const error = new DistError("no");
    first.settle(error);
    group.end(a, first, performance.now(), true);
    group.end(b, second, performance.now(), false);
    expect(read()).toMatchObject({
      ...{ pending: 1, begun: 3, failed: 1 },
      inFlight: [{ op: "recv" }],
      last: { seq: 8, hasFailed: false, callSite: undefined },
      lastFailed: { seq: 7, hasFailed: true, callSite: expect.stringMatching(/status-record\.test\.ts:\d+:\d+$/) },
      lastError: "no",
    });
  });

  test.each([
    ["OP_TIMEOUT", true, true],
    ["PEER_LOST", true, false],
    ["ABORTED", false, false],
  ] as const)("says whether an op failed because of other ranks: %s", (code, hasGivenUp, hasTimedOut) => {
    const work = pending(7);
    const slot = begin(work);
    work.settle(new DistError("no", { code }));
    group.end(slot, work, performance.now(), true);
    expect(read().last).toMatchObject({ hasFailed: true, hasGivenUp, hasTimedOut });
  });

  test("says whether the time-out of a pending op has expired", () => {
    const began = performance.now() - 50;
    for (const timeoutMs of [40, 60_000, undefined]) {
      group.begin(pending(7), OpType.BARRIER, false, -1, began, 0, undefined, timeoutMs);
    }
    const inFlight = [{ hasTimedOut: true }, { hasTimedOut: false }, { hasTimedOut: false }];
    expect(read()).toMatchObject({ inFlight });
  });

  test("keeps the ops that have ended until their places are taken", () => {
    expect(readRecord(path)?.ops).toEqual([]);
    for (let seq = 1; seq <= SLOTS + 5; seq++) {
      const work = pending(seq);
      const slot = begin(work);
      if (seq !== SLOTS) group.end(slot, work, performance.now(), false);
    }
    const ops = readRecord(path)?.ops ?? [];
    expect(ops.map(({ number }) => number)).toEqual(Array.from({ length: SLOTS }, (_, i) => i + 6));
    expect(ops.filter(({ ended }) => ended === undefined)).toMatchObject([{ number: SLOTS, seq: SLOTS, turn: SLOTS }]);
  });

  test("gets the number of an op that is known only later, and where it was called after 100 ms", async () => {
    const work = pending();
    begin(work);
    expect(read().inFlight).toMatchObject([{ seq: -1, callSite: undefined }]);
    (work as { seq: number }).seq = 5;
    await Bun.sleep(250);
    expect(read().inFlight).toMatchObject([{ seq: 5, callSite: expect.stringContaining("status-record.test.ts") }]);
  });

  test("gets the place of the call also while wait() blocks the thread", () => {
    begin(pending(1), performance.now() - 90);
    begin(pending(2), performance.now() - 110);
    serveBlocked();
    expect(read().inFlight.map(({ seq, callSite }) => [seq, callSite !== undefined])).toEqual([
      [2, true],
      [1, false],
    ]);
  });

  test("has room for some of very many ops and groups", () => {
    const works = Array.from({ length: SLOTS + 9 }, (_, i) => pending(i));
    const places = works.map((work) => begin(work));
    expect(read()).toMatchObject({ pending: SLOTS + 9, begun: SLOTS + 9 });
    expect(read().inFlight).toHaveLength(SLOTS);
    for (const [i, work] of works.entries()) group.end(places[i] ?? -1, work, performance.now(), false);
    expect(read()).toMatchObject({ pending: 0, inFlight: [], last: { seq: SLOTS - 1 } });
  });

  test("has the groups that were used last, with all their turns, of more than it has room for", () => {
    const names = () =>
      read()
        .groups.map(({ name }) => name)
        .sort();
    const call = (each: GroupStatus | undefined, work = pending(1)) => {
      const slot = each?.begin(work, OpType.BARRIER, false, -1, performance.now(), 0, undefined) ?? -1;
      return () => each?.end(slot, work, performance.now(), false);
    };
    const others = Array.from({ length: GROUPS - 1 }, (_, i) =>
      record.group({ name: `g${i}`, backends: ["x"], rank: 0, size: 1 }),
    );
    call(group)();
    expect(names()).toHaveLength(GROUPS);
    // The op in flight keeps the place of its group, which would otherwise be the next to lose it.
    const end = call(others[0]);
    for (const other of others.slice(2)) call(other)();
    const extra = ["e0", "e1"].map((name) => record.group({ name, backends: ["x"], rank: 0, size: 1 }));
    expect(names()).not.toContain("g1");
    expect(names()).not.toContain("pair");
    expect(read().inFlight).toMatchObject([{ op: "barrier", group: "g0" }]);
    end();
    call(group);
    expect(read()).toMatchObject({ inFlight: [{ group: "pair", turn: 2 }] });
    expect(read().groups.find(({ name }) => name === "pair")).toMatchObject({ turn: 2, rank: 1, size: 2 });
    expect(names()).toHaveLength(GROUPS);
    for (const other of [...others, ...extra]) other.close();
    expect(names()).toEqual(["pair"]);
    record.group({ name: "new", backends: ["x"], rank: 0, size: 1 });
    expect(names()).toEqual(["new", "pair"]);
  });

  test("has the collectives in flight although more messages are than it has room for", () => {
    const sends = Array.from({ length: SLOTS + 3 }, (_, i) => pending(i, OpType.SEND));
    const places = sends.map((work) => group.begin(work, OpType.SEND, true, 0, performance.now(), 4, undefined));
    const [work, next] = [pending(1, OpType.BARRIER), pending(2, OpType.BARRIER)];
    const [place, nextPlace] = [begin(work), begin(next)];
    const collectives = () => read().inFlight.filter(({ turn }) => turn > 0);
    expect(collectives()).toMatchObject([
      { op: "barrier", seq: 1, turn: 1 },
      { op: "barrier", seq: 2, turn: 2 },
    ]);
    // Those that have lost their slots end without a trace.
    for (const [i, send] of sends.entries()) group.end(places[i] ?? -1, send, performance.now(), false);
    expect(collectives()).toHaveLength(2);
    expect(read()).toMatchObject({ pending: 2, last: { op: "send", seq: SLOTS - 3 } });
    group.end(place, work, performance.now(), false);
    group.end(nextPlace, next, performance.now(), false);
    expect(read()).toMatchObject({ pending: 0, inFlight: [], last: { op: "barrier", seq: 2 } });
  });

  test("has the first collective in flight of a group although those of another one fill it", () => {
    for (let seq = 1; seq <= SLOTS + 2; seq++) begin(pending(seq));
    const other = record.group({ name: "other", backends: ["x"], rank: 0, size: 1 });
    const work = pending(1, OpType.BARRIER);
    other.begin(work, OpType.BARRIER, false, -1, performance.now(), 0, undefined);
    const { inFlight } = read();
    expect(inFlight.filter((each) => each.group === "other")).toMatchObject([{ op: "barrier", turn: 1 }]);
    expect(inFlight.filter((each) => each.group === "pair").map(({ seq }) => seq)).toEqual(
      Array.from({ length: SLOTS - 1 }, (_, i) => i + 1),
    );
    expect(record.turnOf(work)).toBe(1);
  });

  test("keeps the op with which the group failed when the group refuses others, however many", () => {
    const [failed, late] = [pending(7), pending(8)];
    const [place, latePlace] = [begin(failed), begin(late)];
    failed.settle(new DistError("too late", { code: "OP_TIMEOUT" }));
    group.end(place, failed, performance.now(), true);
    // It ends with the group.
    late.settle(new DistError("too late", { code: "OP_TIMEOUT" }));
    group.end(latePlace, late, performance.now(), true);
    for (let i = 0; i < 2 * SLOTS; i++) {
      const refused = pending(-1, OpType.BARRIER);
      const slot = begin(refused);
      refused.settle(new DistError("has failed before", { code: "GROUP_FAILED" }));
      group.end(slot, refused, performance.now(), true);
    }
    const last = { op: "allReduce", seq: 7, hasFailed: true };
    expect(read()).toMatchObject({ pending: 0, inFlight: [], last, lastFailed: last, lastError: "too late" });
    expect(read().failed).toBe(2 * SLOTS + 2);
    // As at debug level DETAIL, where a group goes on after calls that differ.
    const next = pending(9);
    const nextPlace = begin(next, performance.now() + 1);
    next.settle(new DistError("too late again", { code: "OP_TIMEOUT" }));
    group.end(nextPlace, next, performance.now(), true);
    expect(read()).toMatchObject({ last: { seq: 9 }, lastFailed: { seq: 9 }, lastError: "too late again" });
  });

  test("has texts without control characters, in one line, and numbers that are numbers", () => {
    const evil = "\x1b[2J\u202eevil";
    record.group({ name: evil, backends: ["x\x07"], rank: 0, size: 1 });
    const work = pending(1);
    const slot = begin(work);
    work.settle(new DistError(`bad\r\n${evil}`));
    group.end(slot, work, performance.now(), true);
    const { groups, lastError } = read();
    expect(groups[1]).toMatchObject({ name: "\\x1b[2J\\u{202e}evil", backend: "x\\x07" });
    expect(lastError).toBe("bad \\x1b[2J\\u{202e}evil");
    const words = new Float64Array(Bun.mmap(path, { shared: true }).buffer);
    words[Header.worldSize] = Number.NaN;
    words[Header.bytes] = Number.POSITIVE_INFINITY;
    expect(read()).toMatchObject({ worldSize: 0, bytes: 0 });
    words[Header.rank] = 0.5;
    expect(readStatus(path)).toBeUndefined();
  });

  test("a collective that was refused takes a turn", () => {
    group.skip(OpType.BARRIER);
    begin(pending(2));
    expect(read()).toMatchObject({ groups: [{ turn: 2 }], inFlight: [{ turn: 2 }] });
  });

  test("says which group the rank has been making for longest", () => {
    const makings = (["newGroup", "splitGroup"] as const).map((maker, i) =>
      record.making({ maker, began: i * 10, callSite: captureCallSite(), parent: "pair" }),
    );
    expect(makings.map(({ turn }) => turn)).toEqual([1, 2]);
    expect(read().groups).toMatchObject([{ name: "pair", made: 2 }]);
    expect(read().making).toEqual({
      ...{ maker: "newGroup", parent: "pair", turn: 1 },
      began: performance.timeOrigin,
      callSite: expect.stringMatching(/status-record\.test\.ts:\d+:\d+$/),
    });
    makings[0]?.end();
    expect(read().making).toMatchObject({ maker: "splitGroup", turn: 2, began: performance.timeOrigin + 10 });
    makings[1]?.end();
    expect(read().making).toBeUndefined();
    const { end } = record.making({ maker: "initProcessGroup", began: 0, callSite: captureCallSite() });
    expect(read().making).toMatchObject({ maker: "initProcessGroup", parent: undefined, turn: 0 });
    end();
  });

  test("says which group the rank has been closing for longest", () => {
    const other = record.group({ name: "1", rank: 0, size: 2, backends: ["fake"] });
    group.closing();
    const since = read().closing?.began ?? 0;
    expect(since).toBeWithin(Date.now() - 5_000, Date.now() + 5_000);
    other.closing();
    group.closing();
    expect(read().closing).toEqual({ group: "pair", began: since });
    group.close();
    expect(read().closing).toMatchObject({ group: "1" });
    other.close();
    expect(read().closing).toBeUndefined();
  });

  test("has the rank's place in the world once it has met the others", () => {
    record.join(3, 8, 77);
    expect(read()).toMatchObject({ rank: 3, worldSize: 8, world: 77 });
  });

  test("says when the rank closed its groups and its process exited, and keeps what it had called", () => {
    group.skip(OpType.BARRIER);
    group.close();
    record.close();
    record.markExit(7);
    const { closedAt, exitedAt, exitCode, groups } = read();
    expect(closedAt).toBeWithin(Date.now() - 5_000, Date.now() + 5_000);
    expect(exitedAt).toBeWithin(Date.now() - 5_000, Date.now() + 5_000);
    expect(exitCode).toBe(7);
    expect(groups).toMatchObject([{ turn: 1 }]);
  });
});

describe("no record", () => {
  test("is created where something exists, or read where something else is", () => {
    expect(() => StatusRecord.create(path, 0, 1)).toThrow("EEXIST");
    symlinkSync(path, join(folder, "link"));
    expect(readStatus(join(folder, "link"))).toBeUndefined();
    expect(readStatus(join(folder, "absent"))).toBeUndefined();
    expect(readStatus(folder)).toBeUndefined();
    truncateSync(path, 100);
    expect(readStatus(path)).toBeUndefined();
  });
});

test("an op that is being written is left out", () => {
  begin(pending(1));
  begin(pending(2));
  const words = new Float64Array(Bun.mmap(path, { shared: true }).buffer);
  words[slotAt(0) + Slot.number] = 3;
  expect(read()).toMatchObject({ inFlight: [{ seq: 2 }], pending: 2 });
  words[slotAt(0) + Slot.check] = 3;
  expect(read().inFlight.map(({ seq }) => seq)).toEqual([1, 2]);
});

test("another process reads what this one writes", async () => {
  begin(pending(9));
  const script = `import { readStatus } from ${JSON.stringify(join(import.meta.dir, "status-reader.ts"))};
    console.log(JSON.stringify(readStatus(${JSON.stringify(path)}).inFlight.map(({ op, seq }) => op + seq)));`;
  const { stdout } = Bun.spawnSync([process.execPath, "-e", script]);
  expect(JSON.parse(stdout.toString())).toEqual(["allReduce9"]);
});
