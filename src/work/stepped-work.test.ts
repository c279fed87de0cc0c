import { describe, expect, test } from "bun:test";
import { DistBackendError, DistTimeoutError, UnsupportedOperationError } from "../errors/index.ts";
import { failure, init, rejection, SlowWork, TestWork } from "./fixtures/test-work.ts";
import { SteppedWork, type Steps } from "./stepped-work.ts";
import { Work } from "./work.ts";

/** Steps over these Works, recording their progress. */
function* stepsOver(works: readonly Work<unknown>[], order: string[] = []): Steps<number> {
  for (const [i, work] of works.entries()) {
    yield work;
    order.push(`after ${i}`);
  }
  return works.length;
}

function started<T>(steps: Steps<T>): SteppedWork<T> {
  const work = new SteppedWork(init, steps);
  work.start();
  return work;
}

const make = (n: number): TestWork[] => Array.from({ length: n }, () => new TestWork(init));
const STEPS = 100_000;

describe("SteppedWork", () => {
  test("takes a step when the one before has ended, and ends with what the steps return", async () => {
    const works = make(3);
    const order: string[] = [];
    const work = started(stepsOver(works, order));
    works[1]?.settle();
    expect(order).toEqual([]);
    works[0]?.settle();
    expect(order).toEqual(["after 0", "after 1"]);
    works[2]?.settle();
    expect([work.isSuccess(), work.result(), await work]).toEqual([true, 3, 3]);
  });

  test("nothing happens before the start", () => {
    const order: string[] = [];
    const steps = (function* (): Steps<void> {
      order.push("began");
      yield* [];
    })();
    const work = new SteppedWork(init, steps);
    expect([order, work.isCompleted()]).toEqual([[], false]);
    work.start();
    expect([order, work.isSuccess()]).toEqual([["began"], true]);
  });

  test("a hundred thousand steps that end at once do not recurse", async () => {
    const work = started(
      (function* (): Steps<string> {
        for (let i = 0; i < STEPS; i++) yield Work.completed(i, init);
        return "done";
      })(),
    );
    expect([work.isCompleted(), await work]).toEqual([true, "done"]);
  });

  test("nor do as many steps that wait() drives", () => {
    let taken = 0;
    const work = started(
      (function* (): Steps<void> {
        for (; taken < STEPS; taken++) yield new TestWork(init);
      })(),
    );
    expect([work.wait(), taken]).toEqual([true, STEPS]);
  });

  test("the error of a step is thrown into the steps, which may continue", async () => {
    const error = failure();
    const seen: unknown[] = [];
    const steps = (function* (): Steps<string> {
      for (const _ of ["at once", "later"]) {
        try {
          yield seen.length === 0 ? Work.rejected(error, init) : new TestWork(init);
        } catch (caught) {
          seen.push(caught);
        }
      }
      return "recovered";
    })();
    const work = started(steps);
    expect([work.isCompleted(), seen]).toEqual([false, [error]]);
    work.wait();
    expect([await work, seen]).toEqual(["recovered", [error]]);
  });

  test("an error that they do not catch, or throw themselves, is the op's", async () => {
    const error = failure();
    const [part] = make(1);
    const order: string[] = [];
    const passing = started(
      (function* (): Steps<void> {
        try {
          if (part !== undefined) yield part;
        } finally {
          order.push("tidied up");
        }
      })(),
    );
    part?.settle(error);
    expect([passing.exception(), order]).toEqual([error, ["tidied up"]]);

    function* throwing(reason: unknown): Steps<void> {
      yield Work.completed(1, init);
      throw reason;
    }
    const broken = new RangeError("broken");
    expect(await rejection(started(throwing(broken)))).toBe(broken);
    const odd = started(throwing("text"));
    expect(odd.exception()).toBeInstanceOf(DistBackendError);
  });

  test("wait() drives it through all its steps, within its limit", () => {
    const limits: number[] = [];
    const works = make(3);
    for (const work of works) {
      work.onBlock = (limitMs) => {
        limits.push(limitMs);
        Bun.sleepSync(15);
        work.settle();
      };
    }
    const work = started(stepsOver(works));
    expect([work.wait({ timeout: 2_000 }), work.result()]).toEqual([true, 3]);
    expect(limits.map((limit, i) => limit <= 2_000 - 14 * i && limit > 1_000)).toEqual([true, true, true]);
  });

  test("wait() throws the error of a step", () => {
    const [first, second] = make(2);
    const error = failure();
    if (first !== undefined) first.onBlock = () => first.settle(error);
    const work = started(stepsOver(first && second ? [first, second] : []));
    expect(() => work.wait()).toThrow(error);
    expect(second?.blocks).toBe(0);
  });

  test("wait() that runs out names the op and its limit, and leaves it pending", async () => {
    const [quick, slow] = [new TestWork(init), new SlowWork({ ...init, seq: 99 })];
    quick.onBlock = () => {
      Bun.sleepSync(15);
      quick.settle();
    };
    const work = started(stepsOver([quick, slow]));
    const wait = () => work.wait({ timeout: 50 });
    expect(wait).toThrow(DistTimeoutError);
    expect(wait).toThrow("allReduce #7: waited 50 ms; the op is still pending and its buffers are still borrowed");
    expect([quick.isCompleted(), work.isCompleted()]).toEqual([true, false]);
    slow.settle();
    expect(await work).toBe(2);
  });

  test("await and wait() interleave: each step is taken once", async () => {
    const works = make(6);
    const order: string[] = [];
    const work = started(stepsOver(works, order));
    const awaited = work.then((value) => `awaited ${value}`);
    works[0]?.settle();
    await Bun.sleep(0);
    const [third] = works.slice(2);
    if (third !== undefined) {
      third.onBlock = () => {
        throw new DistTimeoutError("enough", { code: "WAIT_TIMEOUT" });
      };
    }
    expect(() => work.wait({ timeout: 1_000 })).toThrow("waited 1000 ms");
    expect(order).toEqual(["after 0", "after 1"]);
    works[3]?.settle();
    works[2]?.settle();
    await Bun.sleep(0);
    expect(order).toHaveLength(4);
    expect(work.wait()).toBe(true);
    expect(await awaited).toBe("awaited 6");
    expect(order).toEqual(works.map((_, i) => `after ${i}`));
  });

  test.each([undefined, failure()])("wait() within the end of a step, before the op is notified of it (%#)", (end) => {
    const [first, second] = make(2);
    const order: string[] = [];
    let seen: unknown;
    const whole: { work?: SteppedWork<number> } = {};
    // Who listens first is called first.
    first?.whenEnded(() => {
      try {
        seen = whole.work?.wait();
      } catch (error) {
        seen = error;
      }
    });
    whole.work = started(stepsOver(first && second ? [first, second] : [], order));
    first?.settle(end);
    expect([seen, whole.work.isCompleted()]).toEqual([end ?? true, true]);
    expect(order).toEqual(end === undefined ? ["after 0", "after 1"] : []);
    if (end === undefined) expect(whole.work.result()).toBe(2);
  });

  test("a Work that is yielded twice is two steps", () => {
    const [twice] = make(1);
    const order: string[] = [];
    const work = started(stepsOver(twice ? [twice, twice] : [], order));
    twice?.settle();
    expect([work.isSuccess(), order]).toEqual([true, ["after 0", "after 1"]]);
  });

  test("wait() from within one of its own steps would deadlock, and says so", () => {
    const codes: unknown[] = [];
    const whole: { work?: SteppedWork<void> } = {};
    const look = (): void => {
      try {
        whole.work?.wait();
      } catch (error) {
        codes.push((error as UnsupportedOperationError).code);
      }
    };
    whole.work = new SteppedWork(
      init,
      (function* (): Steps<void> {
        look();
        yield Work.completed(1, init);
        look();
        yield new TestWork(init);
        look();
      })(),
    );
    whole.work.start();
    expect(whole.work.wait()).toBe(true);
    expect(codes).toEqual(Array(3).fill("WAIT_WOULD_DEADLOCK"));
  });

  test("wait() before the start drives what is ahead", () => {
    const [ahead, part] = make(2);
    if (ahead === undefined || part === undefined) throw new Error("there are two");
    const work = new SteppedWork(init, stepsOver([part]), () => ahead);
    ahead.whenEnded(() => work.start());
    expect([work.wait(), ahead.blocks, part.blocks]).toEqual([true, 1, 1]);

    const never = new SteppedWork(init, stepsOver([]), () => {
      throw new UnsupportedOperationError("nothing is ahead");
    });
    expect(() => never.wait()).toThrow("nothing is ahead");
    const late = new SteppedWork(init, stepsOver([]), () => ahead);
    expect(() => late.wait()).toThrow("wait() was called from a listener of the op before; await it");
    expect(() => new SteppedWork(init, stepsOver([])).wait()).toThrow(UnsupportedOperationError);
  });

  test("wait() before the start that runs out names the op", () => {
    const work = new SteppedWork(init, stepsOver([]), () => new SlowWork({ ...init, seq: 1 }));
    expect(() => work.wait({ timeout: 20 })).toThrow("allReduce #7: waited 20 ms");
  });

  test("synchronize() goes to the current step", () => {
    const works = make(2);
    const work = started(stepsOver(works));
    work.synchronize();
    works[0]?.settle();
    work.synchronize();
    works[1]?.settle();
    work.synchronize();
    expect(works.map(({ synchronizations }) => synchronizations)).toEqual([1, 2]);
  });

  test("synchronize() of steps on a device with streams waits for all of them: the next begins only after the one before", () => {
    const works = make(3);
    for (const each of works) each.usesStream = true;
    const work = started(stepsOver(works));
    expect(work.hasStream).toBe(true);
    work.synchronize();
    expect(work.isSuccess()).toBe(true);
    expect(works.map(({ blocks }) => blocks)).toEqual([1, 1, 1]);
  });
});
