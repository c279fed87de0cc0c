import { describe, expect, test } from "bun:test";
import { HashStore } from "../../store/index.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { watchCreation } from "./creation-watch.ts";
import { CREATION, type FailureReport, reportFailure } from "./failure-report.ts";

function setup(size = 3) {
  const store = new HashStore();
  const clock = new ManualClock();
  const reasons: string[] = [];
  const watch = watchCreation({ store, clock, size }, (reason) => reasons.push(reason));
  /** Lets `count` looks take place. */
  const look = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      clock.advance(200);
      // The store is asked twice, and each answer takes some turns.
      await Bun.sleep(1);
    }
  };
  return { store, clock, reasons, watch, look };
}

const report = (op: string): FailureReport => ({
  rank: 2,
  op,
  seq: 1,
  called: 1,
  kind: "lost",
  text: "rank 1 has gone",
  peer: 1,
  ranks: [],
});

describe("a rank that connects", () => {
  test("gives up when another rank has", async () => {
    const { store, reasons, look } = setup();
    await look(3);
    expect(reasons).toEqual([]);
    await reportFailure(store, report(CREATION));
    await look(3);
    expect(reasons).toEqual(["rank 2 has given up making the group"]);
  });

  test("still has time if the group was made on another rank and failed there", async () => {
    const { store, reasons, look } = setup();
    await reportFailure(store, report("allReduce"));
    await look(4);
    expect(reasons).toEqual([]);
    await look(4);
    expect(reasons).toEqual(["the group has failed on rank 2"]);
  });

  test("stops looking when it is connected, or is alone", async () => {
    for (const size of [1, 3]) {
      const { store, reasons, watch, look } = setup(size);
      await reportFailure(store, report(CREATION));
      if (size > 1) watch[Symbol.dispose]();
      await look(3);
      expect(reasons).toEqual([]);
    }
  });

  test("keeps looking if the store does not answer", async () => {
    const { store, reasons, look } = setup();
    const { check } = store;
    store.check = () => Promise.reject(new Error("gone"));
    await reportFailure(store, report(CREATION));
    await look(3);
    expect(reasons).toEqual([]);
    store.check = check;
    await look(2);
    expect(reasons).toHaveLength(1);
  });
});
