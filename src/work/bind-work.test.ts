import { describe, expect, test } from "bun:test";
import { OpType } from "../collectives/op-type.ts";
import { UnsupportedOperationError } from "../errors/index.ts";
import { bound, failure, init, Owner, TestWork } from "./fixtures/test-work.ts";
import { bindWork, OWN_RESULT, Work } from "./work.ts";

describe("bindWork", () => {
  test("the group is notified of the start and the end", () => {
    const [owner, work] = [new Owner(), new TestWork(init)];
    bindWork(work, owner, OWN_RESULT);
    expect([owner.inFlight, owner.ended]).toEqual([1, []]);
    work.settle(failure());
    expect([owner.inFlight, owner.ended.length, owner.failed[0]]).toEqual([0, 1, work]);
    work.settle();
    expect(owner.ended).toHaveLength(1);
  });

  test("a Work that has already ended notifies the group when it is bound", () => {
    const owner = new Owner();
    const failed = new TestWork(init);
    failed.settle(failure());
    for (const work of [failed, Work.rejected(failure(), init), Work.completed(1, init)])
      bindWork(work, owner, OWN_RESULT);
    expect([owner.inFlight, owner.ended.length, owner.failed.length]).toEqual([0, 3, 2]);
  });

  test("the group is notified before listeners and waiters", () => {
    const [owner, work] = [new Owner(), new TestWork(init)];
    work.whenEnded(() => expect(owner.ended).toEqual([work]));
    bindWork(work, owner, OWN_RESULT);
    work.settle();
    expect.assertions(1);
  });

  test("twice throws, also for the same group", () => {
    const [owner, work] = [new Owner(), bound(new TestWork(init))];
    expect(() => bindWork(work, owner, OWN_RESULT)).toThrow("allReduce #7 already belongs to a group");
    bindWork(Work.completed(1, init), owner, OWN_RESULT);
    expect([owner.inFlight, owner.ended.length]).toEqual([0, 1]);
  });

  test("the result is the given one, or the Work's own", async () => {
    const results: readonly unknown[] = [[1], undefined, null, OWN_RESULT];
    for (const result of results) {
      const [pending, ended, awaited] = [new TestWork(init), new TestWork(init), new TestWork(init)];
      ended.settle();
      for (const work of [pending, ended, awaited]) bindWork(work, new Owner(), result);
      const early = awaited.then((value) => value);
      pending.settle();
      awaited.settle();
      const expected = result === OWN_RESULT ? "the result" : result;
      expect([pending.result(), await ended, await early] as unknown[]).toEqual([expected, expected, expected]);
    }
  });

  test("the source of a message is what the backend reports, else what is known beforehand; as a global rank", () => {
    const recv = (came: number | undefined, known?: number): number => {
      const work = new TestWork({ opType: OpType.RECV });
      bindWork(work, new Owner(), "result", known);
      expect(() => work.sourceRank()).toThrow("the source rank is known only after success");
      if (came !== undefined) work.cameFrom(came);
      work.settle();
      return work.sourceRank();
    };
    expect([recv(2), recv(undefined, 3), recv(2, 3)]).toEqual([12, 13, 12]);
    const early = new TestWork({ opType: OpType.RECV_ANY_SOURCE });
    early.cameFrom(1);
    early.settle();
    expect(early.sourceRank()).toBe(1);
    bindWork(early, new Owner(), "result", 3);
    expect(early.sourceRank()).toBe(11);
  });

  test("a Work without a group cannot be aborted", () => {
    expect(() => new TestWork(init).abort()).toThrow("allReduce #7 cannot be aborted");
    expect(() => bound(new TestWork(init)).abort()).toThrow(UnsupportedOperationError);
  });
});
