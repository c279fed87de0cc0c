import { describe, expect, test } from "bun:test";
import { DistTimeoutError } from "../errors/index.ts";
import { AllOf } from "./all-of.ts";
import { bound, failure, init, rejection, SlowWork, TestWork } from "./fixtures/test-work.ts";
import { failureOf, Work } from "./work.ts";

function parts(n: number): TestWork[] {
  return Array.from({ length: n }, () => new TestWork(init));
}

describe("AllOf", () => {
  test("succeeds when all have, in any order", async () => {
    const works = parts(3);
    const whole = new AllOf(works, init);
    for (const i of [2, 0, 1]) {
      expect(whole.isCompleted()).toBe(false);
      works[i]?.settle();
    }
    expect([whole.isSuccess(), await whole, whole.result(), whole.seq]).toEqual([true, undefined, undefined, 7]);
  });

  test("of no Works, or of ones that have ended", async () => {
    expect(new AllOf([], init).isSuccess()).toBe(true);
    expect(new AllOf([Work.completed(1, init), Work.completed(2, init)], init).isSuccess()).toBe(true);
    const error = failure();
    const whole = new AllOf([...parts(1), Work.rejected(error, init)], init);
    expect(await rejection(whole)).toBe(error);
  });

  test("copies the list: the caller may reuse it", () => {
    const works = parts(2);
    for (const work of works) work.onBlock = () => work.settle(failure());
    const whole = new AllOf(works, init);
    works.length = 0;
    expect(() => whole.wait()).toThrow();
    expect(whole.isSuccess()).toBe(false);
  });

  test("fails with the error that comes first, and at once", async () => {
    const works = parts(3);
    const whole = new AllOf(works, init);
    const [first, second] = [failure(), failure()];
    works[2]?.settle(first);
    expect(failureOf(whole)).toBe(first);
    works[0]?.settle(second);
    works[1]?.settle();
    expect(await rejection(whole)).toBe(first);
  });

  test("a part whose value() throws does not matter", async () => {
    class Odd extends TestWork {
      protected override value(): string {
        throw new RangeError("broken");
      }
    }
    const part = new Odd(init);
    const whole = new AllOf([part], init);
    part.settle();
    expect(await whole).toBeUndefined();
  });

  test("wait() blocks on one after the other, within its limit", () => {
    const works = parts(3);
    const limits: number[] = [];
    for (const work of works) {
      work.onBlock = (limitMs) => {
        limits.push(limitMs);
        Bun.sleepSync(20);
        work.settle();
      };
    }
    const whole = new AllOf(works, init);
    works[1]?.settle();
    expect(whole.wait({ timeout: 1_000 })).toBe(true);
    expect(limits).toHaveLength(2);
    expect(limits[0]).toBeWithin(900, 1_001);
    expect(limits[1]).toBeWithin(800, 985);
  });

  test("wait() without a limit waits for its parts without one", () => {
    const [work] = parts(1);
    const limits: number[] = [];
    if (work !== undefined) {
      work.onBlock = (limitMs) => {
        limits.push(limitMs);
        work.settle();
      };
    }
    new AllOf(work === undefined ? [] : [work], init).wait();
    expect(limits).toEqual([Number.POSITIVE_INFINITY]);
  });

  test("wait() that runs out names the whole and its limit, and leaves all pending", () => {
    const [quick, slow] = [new TestWork(init), new SlowWork({ ...init, seq: 8 })];
    quick.onBlock = () => {
      Bun.sleepSync(20);
      quick.settle();
    };
    const whole = new AllOf([quick, slow, ...parts(1)], init);
    const wait = () => whole.wait({ timeout: 100 });
    expect(wait).toThrow(DistTimeoutError);
    expect(wait).toThrow("allReduce #7: waited 100 ms; the op is still pending");
    expect([quick, slow, whole].map((work) => work.isCompleted())).toEqual([true, false, false]);
  });

  test("wait() throws the first error without blocking on the rest", () => {
    const [first, second] = parts(2);
    const error = failure();
    if (first === undefined || second === undefined) throw new Error("there are two");
    first.onBlock = () => first.settle(error);
    const whole = new AllOf([first, second], init);
    expect(() => whole.wait()).toThrow(error);
    expect(second.blocks).toBe(0);
  });

  test.each([undefined, failure()])(
    "wait() within the end of its last part, before it is notified itself (%#)",
    (end) => {
      const [part] = parts(1);
      let seen: unknown;
      const whole: { work?: AllOf } = {};
      part?.whenEnded(() => {
        try {
          seen = whole.work?.wait();
        } catch (error) {
          seen = error;
        }
      });
      whole.work = new AllOf(part === undefined ? [] : [part], init);
      part?.settle(end);
      expect([seen, whole.work.isSuccess()]).toEqual([end ?? true, end === undefined]);
    },
  );

  test("synchronize() goes to all parts", () => {
    const works = parts(2);
    const whole = new AllOf(works, init);
    whole.synchronize();
    for (const work of works) work.settle();
    whole.synchronize();
    expect(works.map(({ synchronizations }) => synchronizations)).toEqual([2, 2]);
  });

  test("observing the whole observes its parts", () => {
    const works = parts(2).map((work) => bound(work));
    const whole = bound(new AllOf(works, init));
    for (const work of works) work.settle(failure());
    expect(works.map(({ observed }) => observed)).toEqual([false, false]);
    whole.exception();
    expect(works.map(({ observed }) => observed)).toEqual([true, true]);
  });
});
