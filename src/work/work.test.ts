import { describe, expect, spyOn, test } from "bun:test";
import { OpType } from "../collectives/op-type.ts";
import {
  DistBackendError,
  type DistError,
  DistTimeoutError,
  InvalidArgumentError,
  UnsupportedOperationError,
} from "../errors/index.ts";
import type { Timeout } from "../time/index.ts";
import { AllOf } from "./all-of.ts";
import { DeferredWork } from "./deferred-work.ts";
import { bound, failure, init, Owner, SlowWork, TestWork } from "./fixtures/test-work.ts";
import { SteppedWork, type Steps } from "./stepped-work.ts";
import { Work, warnIfUnobserved } from "./work.ts";

/** The process warnings emitted while `act` and the immediates after it run. */
async function warnings(act: () => unknown): Promise<(Error & { code?: string })[]> {
  const seen: Error[] = [];
  const note = (warning: Error) => seen.push(warning);
  process.on("warning", note);
  await act();
  await Bun.sleep(20);
  process.off("warning", note);
  return seen;
}

describe("Work", () => {
  test("awaited before and after its end", async () => {
    const work = new TestWork(init);
    const early = work.then((value) => `early: ${value}`);
    setTimeout(() => work.settle(), 5);
    expect(await work).toBe("the result");
    expect(await early).toBe("early: the result");
    expect(await work).toBe("the result");
    expect(await Promise.all([work, work])).toEqual(["the result", "the result"]);
    expect(work.blocks).toBe(0);
  });

  test("a failure rejects all awaits, with one error", async () => {
    const work = new TestWork(init);
    const error = failure();
    const early = work.catch((reason: unknown) => reason);
    work.settle(error);
    expect(await early).toBe(error);
    expect(await work.then(undefined, (reason: unknown) => reason)).toBe(error);
    expect(await work.catch((reason: unknown) => reason)).toBe(error);
    let seen: unknown;
    try {
      await work;
    } catch (caught) {
      seen = caught;
    }
    expect(seen).toBe(error);
  });

  test("finally runs on success and failure", async () => {
    const [good, bad] = [new TestWork(init), new TestWork(init)];
    good.settle();
    bad.settle(failure());
    let ends = 0;
    const count = () => {
      ends++;
    };
    expect(await good.finally(count)).toBe("the result");
    expect(await bad.finally(count).catch(({ code }: DistError) => code)).toBe("PEER_LOST");
    expect(ends).toBe(2);
  });

  test("only the first end counts", async () => {
    const work = new TestWork(init);
    work.settle();
    work.settle(failure());
    expect(work.isSuccess()).toBe(true);
    expect(await work).toBe("the result");
    const failed = new TestWork(init);
    failed.settle(failure());
    failed.settle();
    expect(failed.exception()?.code).toBe("PEER_LOST");
  });

  test("a Work that stops blocking too early has not ended, nor has the one that it is part of", () => {
    const lazy = (): TestWork => Object.assign(new TestWork(init), { onBlock: () => {} });
    const steps = function* (): Steps<string> {
      yield lazy();
      return "too early";
    };
    const stepped = new SteppedWork(init, steps());
    stepped.start();
    const deferred = new DeferredWork(init, () => lazy());
    deferred.follow(lazy());
    for (const work of [lazy(), stepped, deferred, new AllOf([lazy()], init)]) {
      expect(() => work.wait()).toThrow("stopped blocking before the op ended");
      expect(work.isCompleted()).toBe(false);
    }
  });

  test("wait blocks without limit unless it is given one", () => {
    const limits: number[] = [];
    for (const options of [undefined, {}, { timeout: 250 }, { timeout: "2s" }, { timeout: Number.POSITIVE_INFINITY }]) {
      const work = new TestWork(init);
      work.onBlock = (limitMs) => {
        limits.push(limitMs);
        work.settle();
      };
      expect(work.wait(options)).toBe(true);
      expect(work.wait(options)).toBe(true);
      expect(work.blocks).toBe(1);
    }
    const none = Number.POSITIVE_INFINITY;
    expect(limits).toEqual([none, none, 250, 2_000, none]);
  });

  test("wait throws the op's error every time", () => {
    const work = new TestWork(init);
    const error = failure();
    work.onBlock = () => work.settle(error);
    for (let i = 0; i < 3; i++) expect(() => work.wait()).toThrow(error);
    expect(work.blocks).toBe(1);
  });

  test.each<[unknown]>([[0], [-1], [Number.NaN], ["soon"], [null]])("wait({ timeout: %p }) is refused", (timeout) => {
    const work = new TestWork(init);
    expect(() => work.wait({ timeout: timeout as Timeout })).toThrow(InvalidArgumentError);
    expect([work.blocks, work.isCompleted()]).toEqual([0, false]);
  });

  test("a wait that runs out leaves it pending", async () => {
    const work = new SlowWork(init);
    expect(() => work.wait({ timeout: 30 })).toThrow(DistTimeoutError);
    expect(() => work.wait({ timeout: 30 })).toThrow(
      "allReduce #7: waited 30 ms; the op is still pending and its buffers are still borrowed",
    );
    expect([work.isCompleted(), work.observed]).toEqual([false, false]);
    work.settle();
    expect(await work).toBe("the result");
  });

  test("state, exception and result while pending, after success, after failure", () => {
    const [pending, good, bad] = [new TestWork(init), new TestWork(init), new TestWork(init)];
    good.settle();
    const error = failure();
    bad.settle(error);
    const states = [pending, good, bad].map((work) => [work.isCompleted(), work.isSuccess(), work.exception()]);
    expect(states).toEqual([
      [false, false, undefined],
      [true, true, undefined],
      [true, false, error],
    ]);
    expect(() => pending.result()).toThrow("allReduce #7 is pending: await it or call wait() before result()");
    expect(good.result()).toBe("the result");
    expect(() => bad.result()).toThrow(error);
  });

  test("whenEnded calls once at the end, without observing the outcome", () => {
    for (const end of [undefined, failure()]) {
      const work = new TestWork(init);
      const seen: boolean[] = [];
      work.whenEnded(() => seen.push(work.isCompleted()));
      work.whenEnded(() => seen.push(work.isSuccess()));
      expect(seen).toEqual([]);
      work.settle(end);
      work.settle();
      expect(seen).toEqual([true, end === undefined]);
      work.whenEnded(() => seen.push(true));
      expect(seen).toHaveLength(3);
      expect(work.observed).toBe(false);
    }
    const blocked = new TestWork(init);
    let ended = false;
    blocked.whenEnded(() => {
      ended = true;
    });
    blocked.wait();
    expect(ended).toBe(true);
  });

  test("info has the times", async () => {
    const before = Date.now();
    const work = new TestWork({ opType: OpType.BROADCAST, seq: 3 });
    await Bun.sleep(15);
    const pending = work.info();
    expect(pending).toMatchObject({ opType: OpType.BROADCAST, seq: 3, timeFinished: undefined });
    expect(Math.abs(pending.timeStarted.getTime() - before)).toBeLessThan(1_000);
    expect(pending.activeDuration).toBeGreaterThan(10);
    work.settle();
    const done = work.info();
    await Bun.sleep(10);
    expect(work.info()).toEqual(done);
    expect(done.timeStarted).toEqual(pending.timeStarted);
    expect(done.activeDuration).toBeGreaterThanOrEqual(pending.activeDuration);
    const elapsed = Number(done.timeFinished) - done.timeStarted.getTime();
    expect(Math.abs(elapsed - done.activeDuration)).toBeLessThan(2);
  });

  test("properties that only some ops have", () => {
    const work = new TestWork(init);
    expect(() => work.sourceRank()).toThrow(UnsupportedOperationError);
    expect(() => work.sourceRank()).toThrow("allReduce #7: only a recv has a source rank");
    expect(() => work.abort()).toThrow(UnsupportedOperationError);
    expect(work.synchronize()).toBeUndefined();
  });

  test.each<[unknown, string]>([
    [{ timeout: 0 }, "timeout must be a positive number"],
    [{ timeout: -1 }, "timeout must be a positive number"],
    [{ timeout: "soon" }, 'got "soon"'],
    [{ timout: 5 }, "wait() takes { timeout }, got the unknown option timout"],
    [5, "wait() takes { timeout }, got number 5"],
    [null, "wait() takes { timeout }, got null"],
  ])("wait(%j) is refused, whether the op has ended or not", (options, message) => {
    const work = new TestWork(init);
    for (const _ of ["pending", "ended"]) {
      expect(() => work.wait(options as { timeout?: Timeout })).toThrow(InvalidArgumentError);
      expect(() => work.wait(options as { timeout?: Timeout })).toThrow(message);
      work.settle();
    }
    expect(work.blocks).toBe(0);
    expect(work.wait({})).toBe(true);
  });

  test("abort goes to the owner while the op is pending", () => {
    const reasons: string[] = [];
    const group = Object.assign(new Owner(), { abort: (reason: string) => void reasons.push(reason) });
    const work = bound(new TestWork(init), group);
    work.abort();
    work.settle();
    work.abort();
    expect(reasons).toEqual(["allReduce #7 was aborted"]);
  });

  test("await using waits, and throws the op's error", async () => {
    const order: string[] = [];
    {
      await using work = new TestWork(init);
      setTimeout(() => {
        order.push("settled");
        work.settle();
      }, 5);
      order.push("block");
    }
    order.push("after");
    expect(order).toEqual(["block", "settled", "after"]);
    const leave = async () => {
      await using work = new TestWork(init);
      work.settle(failure());
    };
    expect(await leave().catch(({ code }: DistError) => code)).toBe("PEER_LOST");
  });

  test("await using does not hide the error of the block behind one that was observed", async () => {
    const error = failure();
    const looked = async () => {
      await using work = new TestWork(init);
      work.settle(error);
      await work;
    };
    expect(await looked().catch((reason: unknown) => reason)).toBe(error);
    // The group has failed, which the error that ends the block says.
    const group = new Owner();
    group.failureObserved = true;
    const following = async () => {
      await using work = bound(new TestWork(init), group);
      work.settle(failure());
      throw error;
    };
    expect(await following().catch((reason: unknown) => reason)).toBe(error);
  });
});

describe("user code within the end of an op", () => {
  /** What the microtasks that `act` queues report; a test cannot have uncaught exceptions. */
  function uncaught(act: () => unknown): unknown[] {
    const tasks: (() => void)[] = [];
    const errors: unknown[] = [];
    const queue = spyOn(globalThis, "queueMicrotask").mockImplementation((task) => void tasks.push(task));
    const report = spyOn(globalThis, "reportError").mockImplementation((error) => void errors.push(error));
    try {
      act();
      expect(errors).toEqual([]);
      for (const task of tasks) task();
    } finally {
      queue.mockRestore();
      report.mockRestore();
    }
    return errors;
  }
  const broken = new Error("broken listener");
  const throwIt = (): never => {
    throw broken;
  };

  test.each([undefined, failure()])(
    "a listener that throws does not affect others, and is an uncaught exception (%#)",
    (end) => {
      const calls: string[] = [];
      const errors = uncaught(() => {
        const work = new TestWork(init);
        work.catch(() => {});
        work.whenEnded(() => calls.push("first"));
        work.whenEnded(throwIt);
        work.whenEnded(() => calls.push("last"));
        work.settle(end);
        expect(work.isSuccess()).toBe(end === undefined);
        work.whenEnded(throwIt);
        calls.push("after");
      });
      expect(calls).toEqual(["first", "last", "after"]);
      expect(errors).toEqual([broken, broken]);
    },
  );

  test("a Work whose value() throws rejects with that error", async () => {
    class Odd extends TestWork {
      protected override value(): string {
        return throwIt();
      }
    }
    for (const early of [true, false]) {
      const work = new Odd(init);
      if (!early) work.settle();
      const result = work.then(undefined, (reason: unknown) => reason);
      if (early) work.settle();
      expect(await result).toBe(broken);
    }
  });

  test("a backend that settles with something other than an error", () => {
    for (const reason of ["text", null]) {
      const work = new TestWork(init);
      work.settle(reason as unknown as DistError);
      expect(work.exception()).toBeInstanceOf(DistBackendError);
      expect(work.exception()?.cause).toBe(reason);
    }
  });

  test("a thenable that throws is a rejected Work", async () => {
    const thenable = { then: throwIt } as unknown as Promise<void>;
    const work = Work.fromPromise(thenable, init);
    expect(await work.catch((reason: unknown) => reason)).toBe(broken);
  });
});

describe("Works that carry one failure", () => {
  const looks: [string, (parts: Work<unknown>[], whole: Work<unknown>, error: DistError) => unknown, boolean[]][] = [
    ["nobody looks", () => {}, [false, false, false]],
    ["the whole is observed", (_, whole) => whole.exception(), [true, true, true]],
    ["the part whose error the whole has is observed", ([part]) => part?.exception(), [true, true, true]],
    ["the other part is observed", ([, other]) => other?.exception(), [false, true, false]],
  ];
  test.each(looks)("%s", async (_, look, observed) => {
    const error = failure();
    const parts = [error, failure()].map((end) => {
      const part = bound(new TestWork(init));
      part.settle(end);
      return part;
    });
    const whole = bound(new AllOf(parts, init));
    await new Promise<void>((resolve) => whole.whenEnded(resolve));
    look(parts, whole, error);
    expect([...parts, whole].map((work) => work.observed)).toEqual(observed);
  });

  test("an error rejected at construction counts as observed once it was on another Work", () => {
    const error = failure();
    const works = [bound(Work.rejected(error, init)), bound(Work.rejected(error, init))];
    works[0]?.exception();
    expect(works.map((work) => work.observed)).toEqual([true, true]);
  });
});

describe("an error that is never observed", () => {
  test("is by itself neither a process warning nor an unhandled rejection", async () => {
    expect(await warnings(() => new TestWork(init).settle(failure()))).toEqual([]);
  });

  test.each<[string, (work: Work<unknown>) => unknown]>([
    ["await", (work) => work.then(undefined, () => {})],
    ["catch", (work) => work.catch(() => {})],
    ["exception()", (work) => work.exception()],
    ["wait()", (work) => expect(() => work.wait()).toThrow()],
    ["result()", (work) => expect(() => work.result()).toThrow()],
  ])("%s observes it", async (_, look) => {
    const work = bound(new TestWork(init));
    work.settle(failure());
    expect(work.observed).toBe(false);
    look(work);
    expect(work.observed).toBe(true);
    expect(await warnings(() => warnIfUnobserved(work))).toEqual([]);
  });

  test("exception() of a pending op does not observe a later error", () => {
    const work = new TestWork(init);
    expect(work.exception()).toBeUndefined();
    work.settle(failure());
    expect(work.observed).toBe(false);
    expect(work.exception()?.code).toBe("PEER_LOST");
  });

  test("the warning does not observe it", async () => {
    const work = new TestWork(init);
    work.settle(failure());
    expect(await warnings(() => warnIfUnobserved(work))).toHaveLength(1);
    expect(work.observed).toBe(false);
    expect(work.exception()?.code).toBe("PEER_LOST");
    expect(await warnings(() => warnIfUnobserved(work))).toEqual([]);
  });
});

describe("Work.fromPromise", () => {
  test("follows the promise", async () => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const work = Work.fromPromise(promise, { opType: OpType.COALESCED });
    expect(work).toBeInstanceOf(Work);
    expect([work.isCompleted(), work.seq]).toEqual([false, -1]);
    resolve(5);
    expect(await work).toBe(5);
    expect([work.isSuccess(), work.wait(), work.result()]).toEqual([true, true, 5]);
    expect(Work.fromPromise(Promise.resolve(1)).info().opType).toBe(OpType.UNKNOWN);
  });

  test("its wait fails at once while pending: nothing could settle it", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const work = Work.fromPromise(promise, { opType: OpType.BARRIER });
    const wait = () => work.wait({ timeout: 60_000 });
    expect(wait).toThrow(UnsupportedOperationError);
    expect(wait).toThrow("barrier: wait() cannot block on this Work, whose steps run on this thread; await it");
    expect(work.isCompleted()).toBe(false);
    resolve();
    await work;
    expect(wait()).toBe(true);
  });

  test("a rejection fails it", async () => {
    const error = failure();
    const work = Work.fromPromise(Promise.reject(error), init);
    expect(await work.catch((reason: unknown) => reason)).toBe(error);
    expect(() => work.wait()).toThrow(error);
  });

  test("a rejection with another kind of error is unchanged", async () => {
    const error = new RangeError("inner");
    const work = Work.fromPromise(Promise.reject(error), init);
    expect(await work.catch((reason: unknown) => reason)).toBe(error);
  });

  test.each<[unknown]>([["text"], [undefined], [null], [0]])("a rejection with %p is a failure", async (reason) => {
    const failed = Work.fromPromise(Promise.reject(reason), init);
    const error = await failed.catch((caught: unknown) => caught);
    for (const work of [failed, Work.rejected(reason, init)]) {
      expect([work.isCompleted(), work.isSuccess()]).toEqual([true, false]);
      expect(work.exception()).toBeInstanceOf(DistBackendError);
      expect(work.exception()?.cause).toBe(reason);
    }
    expect(error).toBe(failed.exception());
  });
});

describe("settled Work", () => {
  test("completed", async () => {
    const work = Work.completed("done", init);
    expect([work.isSuccess(), work.wait(), work.result(), await work]).toEqual([true, true, "done", "done"]);
    expect(Work.completed(undefined, init).result()).toBeUndefined();
  });

  test("rejected", async () => {
    const error = failure();
    const work = Work.rejected<string>(error, { opType: OpType.BARRIER });
    expect([work.isCompleted(), work.isSuccess(), work.seq]).toEqual([true, false, -1]);
    expect(() => work.wait()).toThrow(error);
    expect(await work.catch((reason: unknown) => reason)).toBe(error);
    expect(work.info().timeFinished).toBeInstanceOf(Date);
  });
});
