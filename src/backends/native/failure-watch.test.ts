import { describe, expect, test } from "bun:test";
import { HashStore } from "../../store/index.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { type FailureReport, reportFailure } from "./failure-report.ts";
import { FailureWatch } from "./failure-watch.ts";

const report = (rank: number): FailureReport => ({
  ...{ rank, op: "abort", seq: 3, called: 3, kind: "aborted", text: "enough", peer: -1, ranks: [] },
});

/** Rank 0 of two. */
function watched(size = 2) {
  const [store, clock, seen] = [new HashStore(), new ManualClock(), [] as string[]];
  const group = { inFlight: 1 };
  const watch = new FailureWatch(
    { store, clock, rank: 0, size },
    1_000,
    () => group.inFlight,
    (reason) => seen.push(reason),
  );
  /** Lets a second pass, and the store answer. */
  const pass = async () => {
    clock.advance(1_000);
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return { store, clock, seen, group, watch, pass };
}

describe("the failure of another rank", () => {
  test("is seen while an op is in flight, once", async () => {
    const { store, seen, watch, pass } = watched();
    watch.begin();
    watch.begin();
    await pass();
    expect(seen).toEqual([]);
    await reportFailure(store, report(1));
    await pass();
    expect(seen).toEqual(["rank 1: enough"]);
    watch.begin();
    await pass();
    expect(seen).toHaveLength(1);
  });

  test("is not looked for when no op is in flight, until there is one again", async () => {
    const { store, clock, seen, group, watch, pass } = watched();
    watch.begin();
    group.inFlight = 0;
    await reportFailure(store, report(1));
    await pass();
    expect([seen, clock.pending]).toEqual([[], 0]);
    group.inFlight = 1;
    watch.begin();
    await pass();
    expect(seen).toEqual(["rank 1: enough"]);
  });

  test("is not this rank's own", async () => {
    const { store, seen, watch, pass } = watched();
    watch.begin();
    await reportFailure(store, report(0));
    await pass();
    expect(seen).toEqual([]);
  });

  test("is not looked for by a lone rank, or after the end of the group", async () => {
    const alone = watched(1);
    alone.watch.begin();
    expect(alone.clock.pending).toBe(0);
    const ended = watched();
    ended.watch.begin();
    ended.watch[Symbol.dispose]();
    ended.watch.begin();
    await reportFailure(ended.store, report(1));
    await ended.pass();
    expect([ended.seen, ended.clock.pending]).toEqual([[], 0]);
  });

  test("a store that does not answer is asked again", async () => {
    const { store, seen, watch, pass } = watched();
    const check = store.check.bind(store);
    let fails = true;
    store.check = (...of) => (fails ? Promise.reject(new Error("away")) : check(...of));
    watch.begin();
    await reportFailure(store, report(1));
    await pass();
    fails = false;
    expect(seen).toEqual([]);
    await pass();
    expect(seen).toEqual(["rank 1: enough"]);
  });
});
