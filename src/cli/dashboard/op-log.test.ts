import { describe, expect, test } from "bun:test";
import type { RecordedOp } from "../../status/index.ts";
import { record as recordOf } from "./fixtures/records.ts";
import { OpLog } from "./op-log.ts";
import { labelsOf } from "./page/op-kinds.ts";
import { OpLanes, rowsOf } from "./page/op-lanes.ts";
import { TimeWindow, tickMs, timeText } from "./page/time-window.ts";

function op(number: number, terms: Partial<RecordedOp> = {}): RecordedOp {
  return {
    ...{ number, op: "allReduce", seq: number, group: "0", backend: "fake", turn: number, peer: -1 },
    ...{ began: number * 10, ended: number * 10 + 5, hasFailed: false, callSite: undefined, ...terms },
  };
}

const record = (rank: number, ...ops: RecordedOp[]) => recordOf(rank, 0, ops);

describe("the log", () => {
  test("has each op once, and again when it has changed", () => {
    const log = new OpLog();
    log.add("a", record(0, op(1), op(2, { ended: undefined })));
    const reader = { cursor: 0, omitted: 0 };
    expect(log.readBy(reader).ops.map(({ id }) => id)).toEqual(["a 1", "a 2"]);
    log.add("a", record(0, op(1), op(2, { ended: undefined })));
    expect(log.readBy(reader).ops).toEqual([]);
    log.add("a", record(0, op(1), op(2)));
    log.add("b", record(1, op(1)));
    expect(log.readBy(reader).ops).toMatchObject([
      { id: "a 2", rank: 0, group: "0", text: 'allReduce #2 on group "0" (fake)', began: 20, ended: 25 },
      { id: "b 1", rank: 1 },
    ]);
  });

  test("counts ops that came and went between two looks", () => {
    const log = new OpLog();
    log.add("a", record(0, op(90), op(91)));
    expect(log.unseen).toBe(0);
    log.add("a", record(0, op(91), op(92)));
    expect(log.unseen).toBe(0);
    log.add("a", record(0, op(92), op(100), op(101)));
    expect(log.unseen).toBe(7);
  });

  test("keeps, and gives at once, no more than some", () => {
    const log = new OpLog();
    for (let i = 0; i < 500; i++) log.add("a", record(0, ...Array.from({ length: 64 }, (_, j) => op(i * 64 + j + 1))));
    expect(log.end).toBe(32_000);
    const slow = { cursor: 1, omitted: 0 };
    const { ops } = log.readBy(slow);
    expect([ops.length, ops.at(-1)?.id, slow]).toEqual([3_000, "a 32000", { cursor: 32_000, omitted: 28_999 }]);
    const fresh = { cursor: 0, omitted: 0 };
    expect([log.readBy(fresh).ops.length, fresh.omitted]).toEqual([3_000, 0]);
    expect(log.readBy({ cursor: 31_990, omitted: 0 }).ops).toHaveLength(10);
  });
});

describe("an op whose end is not seen", () => {
  const pending = op(1, { ended: undefined });
  const looks = (log: OpLog) => {
    const reader = { cursor: 0, omitted: 0 };
    return () => log.readBy(reader).ops.map(({ id, ended, wasCut }) => [id, ended, wasCut] as const);
  };

  test("has ended once its place in the record is taken", () => {
    const log = new OpLog();
    const next = looks(log);
    log.add("a", recordOf(0, 0, [pending], { at: 50 }));
    expect(next()).toEqual([["a 1", undefined, false]]);
    log.add("a", recordOf(0, 0, [op(100)], { at: 70 }));
    expect(next()).toEqual([
      ["a 1", 50, false],
      ["a 100", 1_005, false],
    ]);
  });

  test("was cut when its process has gone, or the record of its rank is another one", () => {
    for (const end of [
      (log: OpLog) => log.add("a", recordOf(0, 0, [pending], { at: 70, process: "gone" })),
      (log: OpLog) => log.forget(["a"], 70),
    ]) {
      const log = new OpLog();
      const next = looks(log);
      log.add("a", recordOf(0, 0, [pending], { at: 50, closing: { group: "0", began: 40 } }));
      log.add("a b", recordOf(0, 0, [pending], { at: 50 }));
      next();
      end(log);
      expect(next()).toContainEqual(["a 1", 70, true]);
      expect(next()).toEqual([]);
    }
  });

  test("is among what a reader gets that has missed its beginning", () => {
    const log = new OpLog();
    const late = { cursor: 0, omitted: 0 };
    log.add("b", recordOf(1, 0, [op(1), pending]));
    for (let i = 0; i < 500; i++) log.add("a", record(0, ...Array.from({ length: 64 }, (_, j) => op(i * 64 + j + 1))));
    const { ops, hasGap } = log.readBy(late);
    expect([ops[0]?.id, ops[0]?.ended, ops.length, hasGap]).toEqual(["b 1", undefined, 3_001, true]);
    log.add("b", recordOf(1, 0, [op(1)]));
    expect(log.readBy(late)).toMatchObject({ ops: [{ id: "b 1", ended: 15 }], hasGap: false });
  });

  test("ends in the lanes when a part of the log is missing", () => {
    const lanes = new OpLanes();
    const open = { ...{ id: "x", rank: 0, group: "0", op: "allReduce", text: "", began: 5, ended: undefined } };
    const view = { ...open, hasFailed: false, wasCut: false, callSite: undefined };
    lanes.add([view, { ...view, id: "y" }]);
    lanes.endOthers([view], 90);
    expect([lanes.get("x")?.ended, lanes.get("y")?.ended]).toEqual([undefined, 90]);
  });
});

describe("lanes", () => {
  const view = (id: string, rank: number, group: string, began: number, ended?: number) => ({
    ...{
      id,
      rank,
      group,
      op: "allReduce",
      text: id,
      began,
      ended,
      hasFailed: false,
      wasCut: false,
      callSite: undefined,
    },
  });

  test("are those of each rank and group, with the ops in order, as they were last seen", () => {
    const lanes = new OpLanes();
    lanes.add([view("a", 1, "0", 20), view("b", 0, "0", 10, 15), view("c", 1, "x", 30), view("d", 1, "0", 10, 12)]);
    lanes.add([view("a", 1, "0", 20, 25)]);
    expect(lanes.all.map(({ key, ops }) => [key, ops.map(({ id }) => id).join("")])).toEqual([
      ["0 0", "b"],
      ["1 0", "da"],
      ["1 x", "c"],
    ]);
    expect(lanes.get("a")?.ended).toBe(25);
    expect(lanes.all[1]?.ops[1]?.ended).toBe(25);
  });

  test("of a rank are in the order of their groups, the default group first, whenever they were used first", () => {
    const lanes = new OpLanes();
    lanes.add(["10", "-1", "2", "tp", "0"].map((group) => view(`${group} of 1`, 1, group, 5)));
    lanes.add(["2", "0"].map((group) => view(`${group} of 0`, 0, group, 6)));
    expect(lanes.all.map(({ key }) => key)).toEqual(["0 0", "0 2", "1 0", "1 -1", "1 2", "1 10", "1 tp"]);
  });

  test("forget the oldest ops of very many", () => {
    const lanes = new OpLanes();
    lanes.add(Array.from({ length: 10_000 }, (_, i) => view(`${i}`, 0, "0", i, i + 1)));
    expect(lanes.all[0]?.ops.length).toBeLessThan(3_400);
    expect([lanes.get("0"), lanes.get("9999")?.began]).toEqual([undefined, 9_999]);
  });

  test("keep a pending op among very many, and no more lanes than some", () => {
    const lanes = new OpLanes();
    lanes.add([view("open", 0, "0", 0), ...Array.from({ length: 10_000 }, (_, i) => view(`${i}`, 0, "0", i, i + 1))]);
    expect(lanes.get("open")?.began).toBe(0);
    expect(lanes.all[0]?.ops[0]?.id).toBe("open");
    lanes.add(Array.from({ length: 2_000 }, (_, i) => view(`g${i}`, i % 4, `group ${i}`, i, i + 1)));
    expect(lanes.all).toHaveLength(512);
    expect([lanes.get("open")?.began, lanes.get("g1"), lanes.get("g1999")?.began]).toEqual([0, undefined, 1_999]);
    expect(lanes.all.map(({ rank }) => rank)).toEqual(lanes.all.map(({ rank }) => rank).sort());
  });

  test("are also there for ranks that have called nothing, on a group if it is given", () => {
    const lanes = new OpLanes();
    lanes.add([view("a", 0, "0", 0)]);
    lanes.addRanks([0, 1]);
    lanes.addRanks([0], "x");
    expect(lanes.all.map(({ key }) => key)).toEqual(["0 0", "0 x", "1 0"]);
  });

  test("have rows for ops that overlap", () => {
    const ops = [view("a", 0, "0", 0, 10), view("b", 0, "0", 5), view("c", 0, "0", 12, 20), view("d", 0, "0", 50, 60)];
    const { placed, rows } = rowsOf(ops, 0, 30, 25);
    expect([placed.map(([{ id }, row]) => `${id}${row}`), rows]).toEqual([["a0", "b1", "c0"], 2]);
    const many = Array.from({ length: 9 }, (_, i) => view(`${i}`, 0, "0", i));
    expect(rowsOf(many, 0, 30, 25).rows).toBe(3);
  });
});

describe("a bar", () => {
  test("has its op where there is room, and when it has failed both signs", () => {
    const allReduce = { op: "allReduce", text: 'allReduce #42 on group "0" (gloo)', hasFailed: false };
    expect(labelsOf(allReduce)).toEqual(["R allReduce #42", "R allReduce", "R", "R"]);
    expect(labelsOf({ ...allReduce, hasFailed: true })).toEqual(["×R allReduce #42", "×R allReduce", "×R", "×"]);
    expect(labelsOf({ ...allReduce, op: "broadcast", hasFailed: true })[2]).toBe("×B");
  });
});

describe("the time window", () => {
  test("follows the job until it is paused or moved", () => {
    const window = new TimeWindow();
    expect([window.from(20_000), window.to(20_000)]).toEqual([10_200, 20_200]);
    window.pause(20_000);
    expect(window.to(30_000)).toBe(20_200);
    window.pan(-0.5, 30_000);
    expect(window.to(30_000)).toBe(15_200);
    window.zoom(0.5, 0);
    expect([window.from(30_000), window.to(30_000)]).toEqual([5_200, 10_200]);
    window.reveal(1_000, 1_100, 30_000);
    expect(window.from(30_000)).toBeLessThan(1_000);
    expect(window.to(30_000)).toBeGreaterThan(1_100);
    window.show(100, 200);
    expect([window.from(0), window.to(0)]).toEqual([75, 225]);
    window.follow();
    expect([window.isPaused, window.to(0) - window.from(0)]).toEqual([false, window.spanMs]);
  });

  test("keeps what is shown within limits", () => {
    const window = new TimeWindow();
    for (let i = 0; i < 100; i++) window.zoom(1.5);
    expect(window.spanMs).toBe(3_600_000);
    for (let i = 0; i < 100; i++) window.zoom(1 / 1.5);
    expect(window.spanMs).toBeCloseTo(0.05);
    window.show(5, 5);
    expect(window.spanMs).toBeGreaterThan(0);
  });

  test("has marks at round times, and texts that tell them apart", () => {
    expect([0.7, 3, 96, 1_000, 1_001].map(tickMs)).toEqual([1, 5, 100, 1_000, 2_000]);
    expect([timeText(12_500, 500), timeText(2_000, 1_000), timeText(1.25, 0.05)]).toEqual([
      "12.5 s",
      "2 s",
      "0.00125 s",
    ]);
  });
});
