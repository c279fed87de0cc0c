import { expect, test } from "bun:test";
import { HashStore } from "../../store/index.ts";
import { RollCallStore } from "./roll-call-store.ts";

const limits = { timeout: 1_000 };

test("the question has a value once all ranks have answered, and none before, at once", async () => {
  const shared = new HashStore();
  const ranks = [0, 1, 2].map(() => new RollCallStore(shared, "watch/0", 3));
  for (const [rank, store] of ranks.entries()) {
    expect((await store.get("watch/0", limits)).length).toBe(0);
    await store.answer(rank, limits);
  }
  for (const store of ranks) expect((await store.get("watch/0", limits)).length).toBe(1);
});

test("everything else is in the store of the group", async () => {
  const shared = new HashStore();
  const store = new RollCallStore(shared, "watch/0", 2);
  await store.set("0", "id");
  expect(await shared.get("0")).toEqual(new TextEncoder().encode("id"));
  expect(await store.add("counter", 2)).toBe(2);
  expect(await store.check(["0", "counter"])).toBe(true);
  await store.compareSet("0", "id", "other");
  expect(await store.get("0")).toEqual(new TextEncoder().encode("other"));
  expect(await store.deleteKey("0")).toBe(true);
  expect(await shared.check(["0"])).toBe(false);
});
