import { describe, expect, test } from "bun:test";
import { OpType, opCall, ReduceOp } from "../collectives/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { dtypes, viewTensor } from "../tensor/index.ts";
import { failure, TestWork } from "../work/fixtures/test-work.ts";
import { failureOf, sourceOf } from "../work/index.ts";
import { FlightRecorder } from "./flight-recorder.ts";
import { GroupRecord } from "./group-record.ts";
import type { RecordedCall } from "./recorded-op.ts";

const members = { name: "3", description: "evens", rank: 1, globalRanks: [0, 2] };
const group = new GroupRecord({ ...members, backends: { cpu: "mine" } });
const cpu = { type: "cpu", index: 0 } as const;

function allReduce(length: number, seq: number) {
  const tensor = viewTensor(new Float32Array(length));
  const call = opCall("allReduce", cpu, [], [tensor], 5_000, { reduceOp: ReduceOp.MAX });
  return { call, work: new TestWork({ opType: OpType.ALLREDUCE, seq }) };
}

function begin(recorder: FlightRecorder, op: string, work: TestWork, call: RecordedCall): number {
  return recorder.begin(group, op, work, performance.now(), call);
}

function end(recorder: FlightRecorder, number: number, work: TestWork): void {
  recorder.end(number, performance.now(), sourceOf(work), failureOf(work)?.message);
}

/** Records all-reduces of 0, 1, 2, … elements. */
function recordSome(recorder: FlightRecorder, count: number): { number: number; work: TestWork }[] {
  return Array.from({ length: count }, (_, i) => {
    const { call, work } = allReduce(i, i);
    return { number: begin(recorder, "allReduce", work, call), work };
  });
}

describe("a flight recorder", () => {
  test("records an op and its progress", () => {
    const recorder = new FlightRecorder();
    const before = Date.now();
    const { call, work } = allReduce(4, 7);
    const number = begin(recorder, "allReduce", work, call);
    const tensors = [{ dtype: "float32", length: 4 }] as const;
    const started = {
      id: 0,
      group: members,
      op: "allReduce",
      opType: OpType.ALLREDUCE,
      seq: 7,
      isMessage: false,
      reduceOp: ReduceOp.MAX,
      peer: -1,
      root: -1,
      tag: 0,
      inputs: tensors,
      outputs: tensors,
      state: "started",
      error: undefined,
      timeoutMs: 5_000,
      timeStarted: undefined,
      timeFinished: undefined,
      callSite: undefined,
      frames: [],
    };
    expect(recorder.entries()).toEqual([{ ...started, timeCreated: expect.any(Number) } as never]);
    expect(recorder.entries({ onlyActive: true })).toHaveLength(1);
    work.settle();
    end(recorder, number, work);
    const [entry] = recorder.entries();
    const { timeCreated = 0, timeFinished = 0 } = entry ?? {};
    // The two clocks may differ slightly.
    expect(timeCreated).toBeWithin(before - 50, Date.now() + 50);
    expect(timeFinished).toBeGreaterThanOrEqual(timeCreated);
    expect(entry).toEqual({ ...started, state: "completed", timeCreated, timeFinished } as never);
    expect(recorder.entries({ onlyActive: true })).toEqual([]);
  });

  test("says why an op has failed", () => {
    const recorder = new FlightRecorder();
    const [only] = recordSome(recorder, 1);
    only?.work.settle(failure());
    if (only !== undefined) end(recorder, only.number, only.work);
    expect(recorder.entries()).toMatchObject([{ state: "failed", error: "rank 1 is gone" }]);
  });

  test("records the tensors of each side, and the sides of a message", () => {
    const recorder = new FlightRecorder();
    const [a, b] = [viewTensor(new Float64Array(2)), viewTensor(new Float64Array(3))];
    const gather = opCall("gather", cpu, [a], [a, b], 1, { root: 1 });
    begin(recorder, "gather", new TestWork({ opType: OpType.GATHER }), gather);
    const recv = opCall("recv", cpu, [], [b], Number.POSITIVE_INFINITY, { tag: 9 });
    const work = new TestWork({ opType: OpType.RECV_ANY_SOURCE });
    const number = begin(recorder, "recv", work, recv);
    expect(recorder.entries()[1]).toMatchObject({ isMessage: true, peer: -1, tag: 9, inputs: [] });
    work.cameFrom(0);
    work.settle();
    end(recorder, number, work);
    const double = (length: number) => ({ dtype: "float64", length });
    expect(recorder.entries()).toMatchObject([
      { root: 1, inputs: [double(2)], outputs: [double(2), double(3)] },
      { root: -1, inputs: [], outputs: [double(3)], peer: 0, timeoutMs: Number.POSITIVE_INFINITY },
    ] as never);
  });

  test("keeps the newest ones, and an entry keeps nothing of the op before", () => {
    const recorder = new FlightRecorder({ capacity: 3 });
    const first = recordSome(recorder, 5);
    expect(recorder.entries().map(({ id }) => id)).toEqual([2, 3, 4]);
    expect(recorder.recorded).toBe(5);
    // The slots of the first two were overwritten: their ends are ignored.
    for (const { number, work } of first) {
      work.settle(number < 2 ? failure() : undefined);
      end(recorder, number, work);
    }
    expect(recorder.entries().map(({ state }) => state)).toEqual(["completed", "completed", "completed"]);
    const objects = { peer: -1, root: 1, tag: 0, timeoutMs: 9, inputs: [], outputs: [] } as const;
    for (const opType of [OpType.BROADCAST, OpType.BROADCAST, OpType.BROADCAST]) {
      begin(recorder, "broadcastObject", new TestWork({ opType }), objects);
    }
    const bare = {
      op: "broadcastObject",
      inputs: [],
      outputs: [],
      root: 1,
      seq: -1,
      timeoutMs: 9,
      timeFinished: undefined,
      state: "started",
    };
    expect(recorder.entries()).toMatchObject([bare, bare, bare] as never);
  });

  test("retains no tensor of an op", async () => {
    const recorder = new FlightRecorder();
    const refs = Array.from({ length: 50 }, () => {
      const tensor = new Float32Array(1000);
      const call = opCall("allReduce", cpu, [], [viewTensor(tensor)], 1, { reduceOp: ReduceOp.SUM });
      const work = new TestWork({ opType: OpType.ALLREDUCE });
      const number = begin(recorder, "allReduce", work, call);
      work.settle();
      end(recorder, number, work);
      return new WeakRef(tensor);
    });
    await Bun.sleep(1);
    Bun.gc(true);
    await Bun.sleep(1);
    Bun.gc(true);
    // A few may still be seen on the stack.
    expect(refs.filter((ref) => ref.deref() !== undefined).length).toBeLessThan(10);
    expect(recorder.entries()).toHaveLength(50);
    expect(dtypes[recorder.entries()[0]?.outputs[0]?.dtype ?? "uint8"].size).toBe(4);
  });

  test("records a Work of which it can read only public members, like one of another copy of the package", () => {
    const recorder = new FlightRecorder();
    const { call } = allReduce(1, 0);
    const work = { opType: OpType.ALLREDUCE, seq: -1 };
    const number = recorder.begin(group, "allReduce", work, performance.now(), call);
    work.seq = 4;
    expect(recorder.entries()).toMatchObject([{ seq: 4, state: "started" }]);
    recorder.end(number, performance.now(), -1, undefined);
    expect(recorder.entries()).toMatchObject([{ seq: 4, state: "completed" }]);
  });

  test("without capacity records nothing", () => {
    const recorder = new FlightRecorder({ capacity: 0 });
    const [only] = recordSome(recorder, 1);
    expect(only?.number).toBe(-1);
    only?.work.settle();
    if (only !== undefined) end(recorder, only.number, only.work);
    expect([recorder.recorded, recorder.entries()]).toEqual([0, []]);
  });

  test.each([-1, 1.5, Number.NaN, "7" as never])("refuses a capacity of %p", (capacity) => {
    expect(() => new FlightRecorder({ capacity })).toThrow(InvalidArgumentError);
  });

  test.each([5, null, "5", [5], { capactiy: 5 }])(
    "refuses %p, which would otherwise count as no options",
    (options) => {
      expect(() => new FlightRecorder(options as never)).toThrow(InvalidArgumentError);
    },
  );

  test.each([true, null, { active: true }, { onlyActive: "no" }])("refuses entries(%p)", (options) => {
    expect(() => new FlightRecorder().entries(options as never)).toThrow(InvalidArgumentError);
  });
});
