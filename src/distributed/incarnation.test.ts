import { describe, expect, test } from "bun:test";
import { HashStore, PrefixStore, type Store } from "../store/index.ts";
import { joinIncarnation } from "./incarnation.ts";

const limits = { timeout: 5_000 };

/** The prefixes that the ranks of one attempt get, in order. */
async function join(store: Store, attempt: number, ranks: readonly number[], worldSize = 2): Promise<string[]> {
  const prefixes: string[] = [];
  for (const rank of ranks) {
    const meeting = await joinIncarnation(store, { rank, worldSize, attempt }, limits);
    prefixes.push(meeting.store instanceof PrefixStore ? meeting.store.prefix : "");
  }
  return prefixes;
}

describe("joinIncarnation", () => {
  test("the first meeting has PyTorch's keys, each later one a prefix", async () => {
    const store = new HashStore();
    expect(await join(store, 0, [0, 1])).toEqual(["", ""]);
    expect(await join(store, 0, [1, 0])).toEqual(["incarnation_1", "incarnation_1"]);
    expect(await join(store, 0, [0, 1])).toEqual(["incarnation_2", "incarnation_2"]);
  });

  test("a rank that joins again begins the next meeting, whatever became of this one on the others", async () => {
    const store = new HashStore();
    expect(await join(store, 0, [0, 1, 2], 3)).toEqual(["", "", ""]);
    // Only rank 2 has failed, twice; the others arrive later.
    expect(await join(store, 0, [2, 2, 0, 1], 3)).toEqual([
      "incarnation_1",
      "incarnation_2",
      "incarnation_2",
      "incarnation_2",
    ]);
    expect(await join(store, 0, [1, 0, 2], 3)).toEqual(["incarnation_3", "incarnation_3", "incarnation_3"]);
  });

  test("a rank that failed before the others arrived meets them in the next meeting", async () => {
    const store = new HashStore();
    expect(await join(store, 0, [2, 2, 0, 1], 3)).toEqual(["", "incarnation_1", "incarnation_1", "incarnation_1"]);
  });

  test("waiting ranks follow a rank that joins again", async () => {
    const store = new HashStore();
    const meeting = { rank: 0, worldSize: 2, attempt: 0 };
    const waiting = await joinIncarnation(store, meeting, limits);
    await join(store, 0, [1]);
    expect(await waiting.isSuperseded(limits)).toBe(false);
    expect(await join(store, 0, [1])).toEqual(["incarnation_1"]);
    expect(await waiting.isSuperseded(limits)).toBe(true);
    const next = await joinIncarnation(store, meeting, limits, true);
    expect([waiting.number, next.number, await next.isSuperseded(limits)]).toEqual([0, 1, false]);
    // It follows, but does not join again.
    expect((await joinIncarnation(store, meeting, limits, true)).number).toBe(1);
    expect(await join(store, 0, [0, 1])).toEqual(["incarnation_2", "incarnation_2"]);
  });

  test("across restarts in one store, a prefix per attempt, whichever ranks joined the one before", async () => {
    const store = new HashStore();
    expect(await join(store, 0, [1])).toEqual([""]);
    expect(await join(store, 1, [0, 1])).toEqual(["attempt_1", "attempt_1"]);
    expect(await join(store, 2, [])).toEqual([]);
    expect(await join(store, 3, [1, 0])).toEqual(["attempt_3", "attempt_3"]);
    expect(await join(store, 3, [1, 0])).toEqual(["attempt_3/incarnation_1", "attempt_3/incarnation_1"]);
  });

  test("a fresh store for a restart has PyTorch's keys again", async () => {
    expect(await join(new HashStore(), 2, [0, 1])).toEqual(["", ""]);
  });

  test("if a PyTorch rank has met the others before, all use its keys", async () => {
    const store = new HashStore();
    expect(await join(store, 0, [0, 2], 3)).toEqual(["", ""]);
    for (const rank of [0, 1, 2]) await store.set(`default_pg/0//cpu//0/${rank}`, "address");
    expect(await join(store, 1, [0], 3)).toEqual([""]);
    await store.deleteKey("default_pg/0//cpu//0/1");
    // The first rank has decided.
    expect(await join(store, 1, [2], 3)).toEqual([""]);
  });

  test("the same holds for the meetings of one attempt", async () => {
    const store = new HashStore();
    expect(await join(store, 0, [0, 2], 3)).toEqual(["", ""]);
    for (const rank of [0, 1, 2]) await store.set(`default_pg/0//cpu//0/${rank}`, "address");
    expect(await join(store, 0, [2, 0], 3)).toEqual(["", ""]);
  });

  test("addresses of ranks of this package are not taken for PyTorch's", async () => {
    const store = new HashStore();
    await join(store, 0, [0, 1]);
    for (const rank of [0, 1]) await store.set(`default_pg/0//cpu//0/${rank}`, "address");
    expect(await join(store, 1, [1, 0])).toEqual(["attempt_1", "attempt_1"]);
  });
});
