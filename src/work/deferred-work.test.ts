import { describe, expect, test } from "bun:test";
import { OpType } from "../collectives/op-type.ts";
import { UnsupportedOperationError } from "../errors/index.ts";
import { DeferredWork } from "./deferred-work.ts";
import { bound, failure, init, Owner, rejection, SlowWork, TestWork } from "./fixtures/test-work.ts";
import { bindWork, sourceOf, Work } from "./work.ts";

const nothingAhead = (): never => {
  throw new UnsupportedOperationError("nothing is ahead", { code: "NOT_SUBMITTED" });
};

describe("DeferredWork", () => {
  test("ends as the op that is submitted later", async () => {
    const [good, bad] = [new DeferredWork(init, nothingAhead), new DeferredWork(init, nothingAhead)];
    const [first, second] = [new TestWork(init), new TestWork(init)];
    good.follow(first);
    bad.follow(second);
    expect([good.isCompleted(), bad.isCompleted()]).toEqual([false, false]);
    first.settle();
    const error = failure();
    second.settle(error);
    expect(await good).toBeUndefined();
    expect(await rejection(bad)).toBe(error);
  });

  test("has its sequence number from then on", () => {
    const work = new DeferredWork({ opType: init.opType }, nothingAhead);
    expect(work.seq).toBe(-1);
    work.follow(new TestWork({ ...init, seq: 9 }));
    expect([work.seq, work.info().seq]).toEqual([9, 9]);
  });

  test("of an op that ended at once", () => {
    const [good, bad] = [new DeferredWork(init, nothingAhead), new DeferredWork(init, nothingAhead)];
    good.follow(Work.completed(undefined, init));
    const error = failure();
    bad.follow(Work.rejected(error, init));
    expect([good.isSuccess(), bad.exception()]).toEqual([true, error]);
  });

  test("has the result that it is bound with", async () => {
    const work = new DeferredWork(init, nothingAhead);
    bindWork(work, new Owner(), "the tensor");
    const actual = new TestWork(init);
    work.follow(actual);
    actual.settle();
    expect(await work).toBe("the tensor" as never);
  });

  test("has the source of the op, or the one that it is bound with", () => {
    const sources = [2, undefined].map((came) => {
      const recv = { opType: OpType.RECV };
      const [work, actual] = [new DeferredWork(recv, nothingAhead), new TestWork(recv)];
      bindWork(work, new Owner(), "the tensor", 3);
      work.follow(actual);
      if (came !== undefined) actual.cameFrom(came);
      actual.settle();
      return [sourceOf(work), work.sourceRank()];
    });
    expect(sources).toEqual([
      [2, 12],
      [3, 13],
    ]);
  });

  test("wait() after the submission blocks on the op", () => {
    const [work, actual] = [new DeferredWork(init, nothingAhead), new TestWork(init)];
    work.follow(actual);
    expect(work.wait()).toBe(true);
    expect(actual.blocks).toBe(1);
  });

  test("wait() before the submission drives what is ahead, one after the other, then the op", () => {
    const order: string[] = [];
    const limits: number[] = [];
    const actual = new TestWork(init);
    const step = (name: string, then: () => void): TestWork => {
      const made = new TestWork(init);
      made.onBlock = (limitMs) => {
        order.push(name);
        limits.push(limitMs);
        Bun.sleepSync(15);
        made.settle();
      };
      made.whenEnded(then);
      return made;
    };
    const second = step("second", () => work.follow(actual));
    let ahead = step("first", () => {
      ahead = second;
    });
    const work: DeferredWork = new DeferredWork(init, () => ahead);
    actual.onBlock = (limitMs) => {
      order.push("op");
      limits.push(limitMs);
      actual.settle();
    };
    expect(work.wait({ timeout: 2_000 })).toBe(true);
    expect(order).toEqual(["first", "second", "op"]);
    expect(limits.map((limit, i) => limit <= 2_000 - 14 * i && limit > 1_000)).toEqual([true, true, true]);
  });

  test("wait() throws why it cannot be submitted, or the error that it ended with meanwhile", () => {
    expect(() => new DeferredWork(init, nothingAhead).wait()).toThrow("nothing is ahead");
    const error = failure();
    const ahead = new TestWork(init);
    const work = new DeferredWork(init, () => ahead);
    ahead.whenEnded(() => work.settle(error));
    expect(() => work.wait()).toThrow(error);
  });

  test("wait() that runs out on what is ahead, or on the op, leaves it pending", () => {
    const ahead = new SlowWork({ ...init, seq: 5 });
    const work = new DeferredWork(init, () => ahead);
    const wait = () => work.wait({ timeout: 30 });
    expect(wait).toThrow("allReduce #7: waited 30 ms; the op is still pending");
    work.follow(new SlowWork({ ...init, seq: 7 }));
    expect(wait).toThrow("allReduce #7: waited 30 ms; the op is still pending");
    expect([ahead.isCompleted(), work.isCompleted()]).toEqual([false, false]);
  });

  test("wait() within the end of what is ahead fails rather than spins, and within the end of the op returns", () => {
    const [ahead, actual] = [new TestWork(init), new TestWork(init)];
    const work = new DeferredWork(init, () => ahead);
    const seen: unknown[] = [];
    const look = (): void => {
      try {
        seen.push(work.wait());
      } catch (error) {
        seen.push((error as UnsupportedOperationError).code);
      }
    };
    ahead.whenEnded(look);
    ahead.whenEnded(() => work.follow(actual));
    actual.whenEnded(look);
    ahead.settle();
    actual.settle();
    expect(seen).toEqual(["WAIT_WOULD_DEADLOCK", true]);
  });

  test("synchronize() goes to the op, and says so before there is one", () => {
    const [work, actual] = [new DeferredWork(init, nothingAhead), new TestWork(init)];
    expect(() => work.synchronize()).toThrow("allReduce #7 has not been submitted yet: await it");
    work.follow(actual);
    work.synchronize();
    actual.settle();
    work.synchronize();
    expect(actual.synchronizations).toBe(2);
  });

  test("only it notifies the group, not the op behind it", () => {
    const owner = new Owner();
    const work = bound(new DeferredWork(init, nothingAhead), owner);
    const actual = new TestWork(init);
    work.follow(actual);
    actual.settle(failure());
    expect(owner.failed).toEqual([work]);
    work.exception();
    expect(actual.observed).toBe(true);
  });
});
