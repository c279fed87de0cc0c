import { describe, expect, spyOn, test } from "bun:test";
import { DistTimeoutError } from "../../errors/index.ts";
import { callOf, fakeContext, fakeSubmit } from "../../middleware/fixtures/fake-group.ts";
import { failureOf } from "../../work/index.ts";
import type { Fault } from "../fault.ts";
import { FaultInjector } from "./fault-injector.ts";
import { OpLogWriter, readOpLog, shareOpLog } from "./op-log.ts";
import { watchOps } from "./op-watch.ts";

function watched(faults: readonly Fault[] = []) {
  const place = shareOpLog();
  const log = new OpLogWriter(place);
  const [group, lane] = [fakeContext(), fakeSubmit()];
  const submit = watchOps(group.context, log, new FaultInjector(faults, log))(lane.submit);
  return { ...group, ...lane, submit, log: () => readOpLog(place) };
}

const drop = (op: number): Fault => ({ action: "drop", rank: 1, op });
const codeOf = (work: object | undefined) => work && failureOf(work)?.code;

describe("watchOps", () => {
  test("records ops and their ends, but no refused calls", () => {
    const { submit, works, log } = watched();
    submit([callOf("refused")]);
    const batch = submit([callOf("allGatherIntoTensor"), callOf("send")]);
    expect(batch).toEqual(works.slice(1));
    const names = log().inFlight.map(({ op, seq, group, backend }) => [op, seq, group, backend]);
    expect(names).toEqual([
      ["allGatherIntoTensor", 2, "pair", "memory"],
      ["send", 3, "pair", "memory"],
    ]);
    works[2]?.settle();
    expect(log()).toMatchObject({
      begun: 2,
      ended: 1,
      last: { op: "send", seq: 3 },
      inFlight: [{ op: names[0]?.[0] }],
    });
  });

  test("passes on the array of calls, and returns the array of Works", () => {
    const { submit, batches } = watched();
    const batch = [callOf("allReduce"), callOf("recv")];
    const layer = submit(batch);
    expect(batches[0]).toBe(batch);
    expect(layer).toHaveLength(2);
  });

  test("strikes before, during and after the op of that number", () => {
    const order: string[] = [];
    const sleep = spyOn(Bun, "sleepSync").mockImplementation((ms) => void order.push(`${ms} ms`));
    try {
      const times = ["before", "during", "after"] as const;
      const { submit, works, batches, log } = watched(
        times.map((when, i) => ({ action: "delay", rank: 1, when, op: 2, by: i + 1 })),
      );
      submit([callOf("refused")]);
      submit([callOf("barrier")]);
      expect(order).toEqual([]);
      submit([callOf("barrier")]);
      expect([order, batches.length]).toEqual([["1 ms", "2 ms"], 3]);
      works[2]?.settle();
      expect(order).toEqual(["1 ms", "2 ms", "3 ms"]);
      expect(log().fired.slice(0, 4)).toEqual([true, true, true, false]);
    } finally {
      sleep.mockRestore();
    }
  });

  test("a dropped op does not reach the backend, nor do collectives after it; messages do", () => {
    const { submit, ops, log } = watched([drop(2)]);
    submit([callOf("allReduce")]);
    const [lost] = submit([callOf("broadcast")]);
    const [held] = submit([callOf("barrier")]);
    const [turn] = submit([callOf("refused")]);
    submit([callOf("send")]);
    const mixed = submit([callOf("recv"), callOf("reduce"), callOf("send")]);
    expect(ops()).toEqual(["allReduce", "send", "recv send"]);
    expect([lost, held, turn].map((work) => work?.isCompleted())).toEqual([false, false, true]);
    expect(mixed.map(({ seq }) => seq)).toEqual([3, -1, 4]);
    expect(log().begun).toBe(7);
    expect(log().fired.slice(0, 2)).toEqual([true, false]);
  });

  test("a dropped message holds nothing back", () => {
    const { submit, ops } = watched([drop(1)]);
    submit([callOf("send"), callOf("allReduce")]);
    submit([callOf("recv")]);
    expect(ops()).toEqual(["allReduce", "recv"]);
  });

  test.each(["wait", "await"])("its time-out fails the group, and all lost ops with it: %s", async (how) => {
    const { submit, ops, failures, log } = watched([drop(1)]);
    const [lost] = submit([callOf("allReduce", { timeoutMs: 40 })]);
    const [held] = submit([callOf("barrier", { timeoutMs: Number.POSITIVE_INFINITY })]);
    if (how === "wait") expect(() => lost?.wait()).toThrow(DistTimeoutError);
    else await lost?.catch(() => {});
    const error = lost && failureOf(lost);
    expect(error?.message).toBe(
      'allReduce on group "pair" (memory, rank 1 of 2), op 1 of this rank: timed out after 40 ms; it was dropped by the fault script',
    );
    expect(error).toMatchObject({ code: "OP_TIMEOUT", details: { op: "allReduce", rank: 1, timeoutMs: 40 } });
    expect(failures).toEqual(error === undefined ? [] : [error]);
    expect(held && failureOf(held)).toBe(error as never);
    expect(log().ended).toBe(2);
    // From then on the group refuses calls.
    submit([callOf("barrier")]);
    expect(ops()).toEqual(["barrier"]);
  });

  test("a wait time-out leaves a lost op pending", () => {
    const { submit } = watched([drop(1)]);
    const [lost] = submit([callOf("allReduce", { timeoutMs: 5_000 })]);
    expect(() => lost?.wait({ timeout: 20 })).toThrow("waited 20 ms");
    expect(lost?.isCompleted()).toBe(false);
    lost?.settle();
  });

  test("an abort ends lost ops", () => {
    const { submit, abort, failures } = watched([drop(1), drop(2)]);
    const works = submit([callOf("send"), callOf("allReduce")]);
    abort("enough");
    expect(works.map(codeOf)).toEqual(["ABORTED", "ABORTED"]);
    expect(works[0] && failureOf(works[0])?.message).toEndWith("(memory, rank 1 of 2): enough");
    expect(failures).toEqual([]);
  });
});
