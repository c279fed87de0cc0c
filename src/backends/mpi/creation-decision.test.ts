import { expect, test } from "bun:test";
import * as dist from "../../index.ts";
import { decide, decidingStore } from "./creation-decision.ts";

const KEY = "mpi/decision";
const go = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

test("the decision of rank 0 stays, and a rank that gives up later learns of it", async () => {
  const store = new dist.HashStore();
  const group = decidingStore(store);
  const awaited = group.get(KEY);
  await group.set(KEY, go);
  expect(await awaited).toEqual(go);
  expect(await decide(store, 2)).toEqual(go);
  await expect(group.set(KEY, Uint8Array.of(9))).rejects.toThrow("decided otherwise");
  expect(await group.get(KEY)).toEqual(go);
});

test("if a rank gives up first, all others learn of that", async () => {
  const store = new dist.HashStore();
  const group = decidingStore(store);
  const givenUp = new Uint8Array(Int32Array.of(2).buffer);
  expect(await decide(store, 2)).toEqual(givenUp);
  await expect(group.set(KEY, go)).rejects.toThrow("decided otherwise");
  expect(await group.get(KEY)).toEqual(givenUp);
  expect(await decide(store, 1)).toEqual(givenUp);
});

test("other keys and members are those of the store", async () => {
  const store = new dist.HashStore();
  store.setTimeout(1234);
  const group = decidingStore(store);
  expect(group.timeout).toBe(1234);
  await group.set("key", "first");
  await group.set("key", "second");
  expect(Buffer.from(await store.get("key")).toString()).toBe("second");
});

test("a store that does not answer in time is asked again, one that is gone is not", async () => {
  let asked = 0;
  class Slow extends dist.HashStore {
    override compareSet(...args: Parameters<dist.HashStore["compareSet"]>): Promise<Uint8Array> {
      if (asked++ > 0) return super.compareSet(...args);
      return Promise.reject(new dist.DistTimeoutError("the store is slow", { code: "STORE_TIMEOUT" }));
    }
  }
  expect(await decide(new Slow(), 1)).toEqual(new Uint8Array(Int32Array.of(1).buffer));
  expect(asked).toBe(2);
  const closed = new dist.HashStore();
  await closed.close();
  expect(await decide(closed, 1)).toBeUndefined();
});
