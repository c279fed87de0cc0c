import { describe, expect, test } from "bun:test";
import { DistStoreError, DistTimeoutError, InvalidArgumentError } from "../errors/index.ts";
import { HashStore, PrefixStore } from "../store/index.ts";
import { StoreCollectives } from "./store-collectives.ts";

/** The collectives of all ranks of a world, over one store. */
function world(size: number): { store: HashStore; ranks: StoreCollectives[] } {
  const store = new HashStore();
  return { store, ranks: Array.from({ length: size }, (_, rank) => new StoreCollectives(store, rank, size)) };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const texts = (list: readonly Uint8Array[]) => list.map(text);

async function everyKey(store: HashStore): Promise<Record<string, string>> {
  const keys = (await store.listKeys()).sort();
  return Object.fromEntries(await Promise.all(keys.map(async (key) => [key, text(await store.get(key))])));
}

describe("StoreCollectives", () => {
  test("barrier: waits for all ranks, with c10d's keys", async () => {
    const { store, ranks } = world(3);
    const ended: number[] = [];
    const early = ranks.slice(0, 2).map((each, rank) => each.barrier("b").then(() => ended.push(rank)));
    await Bun.sleep(20);
    expect(ended).toEqual([]);
    await Promise.all([...early, ranks[2]?.barrier("b")]);
    expect(ended.sort()).toEqual([0, 1]);
    expect(await everyKey(store)).toEqual({
      "b/0": "joined",
      "b/1": "joined",
      "b/2": "joined",
      "b/last_members": "<val_ignored>",
      "b/num_members": "3",
    });
  });

  test("barrier with block: false only announces the rank", async () => {
    const { ranks } = world(2);
    await ranks[0]?.barrier("b", { block: false });
    await ranks[1]?.barrier("b", { timeout: 100 });
  });

  test("allSum", async () => {
    const { store, ranks } = world(3);
    expect(await Promise.all(ranks.map((each, rank) => each.allSum("s", rank * 10 - 5)))).toEqual([15, 15, 15]);
    expect(Object.keys(await everyKey(store))).toEqual([
      "s",
      "s/barrier/0",
      "s/barrier/1",
      "s/barrier/2",
      "s/barrier/last_members",
      "s/barrier/num_members",
    ]);
  });

  test("broadcast", async () => {
    const { store, ranks } = world(2);
    const received = ranks[1]?.broadcastRecv("k");
    await ranks[0]?.broadcastSend("k", "hello");
    expect(text((await received) ?? new Uint8Array(0))).toBe("hello");
    expect(await everyKey(store)).toEqual({ k: "hello" });
  });

  test("gather: own data is not written", async () => {
    const { store, ranks } = world(3);
    const own = new Uint8Array([120]);
    const gathered = ranks[1]?.gatherRecv("g", own);
    own[0] = 0;
    await Promise.all([ranks[0]?.gatherSend("g", "a"), ranks[2]?.gatherSend("g", "c")]);
    expect(texts((await gathered) ?? [])).toEqual(["a", "x", "c"]);
    expect(await everyKey(store)).toEqual({ "g/0": "a", "g/2": "c" });
  });

  test("scatter: resolves to the own item, which is not written", async () => {
    const { store, ranks } = world(3);
    expect(text((await ranks[1]?.scatterSend("s", ["a", "b", "c"])) ?? new Uint8Array(0))).toBe("b");
    expect(text((await ranks[2]?.scatterRecv("s")) ?? new Uint8Array(0))).toBe("c");
    expect(await everyKey(store)).toEqual({ "s/0": "a", "s/2": "c" });
  });

  test("allGather", async () => {
    const { store, ranks } = world(3);
    const all = await Promise.all(ranks.map((each, rank) => each.allGather("a", `r${rank}`)));
    expect(all.map(texts)).toEqual([
      ["r0", "r1", "r2"],
      ["r0", "r1", "r2"],
      ["r0", "r1", "r2"],
    ]);
    expect(await everyKey(store)).toEqual({ "a/0": "r0", "a/1": "r1", "a/2": "r2" });
  });

  test("a world of one rank waits for nobody", async () => {
    const alone = new StoreCollectives(new HashStore(), 0, 1);
    await alone.barrier("b");
    expect(await alone.allSum("s", 4)).toBe(4);
    expect(texts(await alone.gatherRecv("g", "x"))).toEqual(["x"]);
    expect(text(await alone.scatterSend("c", ["y"]))).toBe("y");
    expect(texts(await alone.allGather("a", "z"))).toEqual(["z"]);
  });

  const short = { timeout: 50 };
  test.each<[string, string, (each: StoreCollectives) => Promise<unknown>]>([
    ["barrier", "barrier failed -- missing ranks: 0, 2, ", (each) => each.barrier("k", short)],
    ["allSum", "barrier failed -- missing ranks: 0, 2, ", (each) => each.allSum("k", 1, short)],
    ["gatherRecv", "gather failed -- missing ranks: 0, 2, ", (each) => each.gatherRecv("k", "x", short)],
    ["allGather", "all_gather failed -- missing ranks: 0, 2, ", (each) => each.allGather("k", "x", short)],
  ])("%s names the ranks that are missing, and leaves the store's time-out as it is", async (_, message, call) => {
    const { store, ranks } = world(3);
    const error = await call(ranks[1] as StoreCollectives).catch((reason: unknown) => reason as DistTimeoutError);
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect((error as DistTimeoutError).message).toStartWith(message);
    expect((error as DistTimeoutError).details.peers).toEqual([0, 2]);
    expect(store.timeout).toBe(300_000);
  });

  test("of some ranks, only those that are missing are named", async () => {
    const { ranks } = world(4);
    await Promise.all([0, 2].map((rank) => ranks[rank]?.gatherSend("g", "x")));
    await expect(ranks[3]?.gatherRecv("g", "x", short)).rejects.toThrow("gather failed -- missing ranks: 1, ");
  });

  test.each<[string, (each: StoreCollectives) => Promise<unknown>]>([
    ["broadcastRecv", (each) => each.broadcastRecv("k", short)],
    ["scatterRecv", (each) => each.scatterRecv("k", short)],
  ])("%s passes on the store's own error", async (_, call) => {
    const { ranks } = world(2);
    const error = await call(ranks[1] as StoreCollectives).catch((reason: unknown) => reason as Error);
    expect(error).toBeInstanceOf(DistTimeoutError);
    expect((error as Error).message).toStartWith("store get: timed out");
  });

  test("another failure of the store is not called a time-out", async () => {
    class Broken extends HashStore {
      override multiGet(): Promise<Uint8Array[]> {
        return Promise.reject(new DistStoreError("the disk is full"));
      }
    }
    const error = await new StoreCollectives(new Broken(), 0, 2).allGather("a", "x").catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DistStoreError);
    expect((error as Error).message).toBe("all_gather failed -- missing ranks: 1, the disk is full");
  });

  test("a key cannot be used twice, not by another op either", async () => {
    const { ranks } = world(2);
    const [first] = ranks as [StoreCollectives, StoreCollectives];
    await first.broadcastSend("k", "a");
    for (const again of [
      first.broadcastSend("k", "b"),
      first.allGather("k", "b"),
      first.barrier("k", { block: false }),
    ]) {
      await expect(again).rejects.toThrow("Key k has already been used.");
    }
  });

  test("a prefix separates worlds that share a store", async () => {
    const store = new HashStore();
    const [a, b] = ["a", "b"].map((prefix) => new StoreCollectives(new PrefixStore(prefix, store), 0, 1));
    await Promise.all([a?.barrier("k"), b?.barrier("k")]);
    expect(await store.check(["a/k/last_members", "b/k/last_members"])).toBe(true);
  });

  test("scatterSend wants one item for each rank, and the key remains unused", async () => {
    const { ranks } = world(2);
    const [first] = ranks as [StoreCollectives, StoreCollectives];
    const wrong = [["a"], ["a", "b", "c"], [], "ab", undefined] as const;
    for (const data of wrong) {
      await expect(first.scatterSend("s", data as never)).rejects.toThrow("one item for each of the 2 ranks");
    }
    await first.scatterSend("s", ["a", "b"]);
  });

  test.each<[string, () => unknown]>([
    ["no key", () => new StoreCollectives(new HashStore(), 0, 1).barrier("")],
    ["a fraction to sum", () => new StoreCollectives(new HashStore(), 0, 1).allSum("k", 0.5)],
    ["a time-out of 0", () => new StoreCollectives(new HashStore(), 0, 1).barrier("k", { timeout: 0 })],
    ["options that are a number", () => new StoreCollectives(new HashStore(), 0, 1).barrier("k", 5 as never)],
    ["block that is no flag", () => new StoreCollectives(new HashStore(), 0, 1).barrier("k", { block: 1 as never })],
    ["data that is a number", () => new StoreCollectives(new HashStore(), 0, 1).allGather("k", 5 as never)],
    ["a rank out of range", async () => new StoreCollectives(new HashStore(), 2, 2)],
    ["no ranks", async () => new StoreCollectives(new HashStore(), 0, 0)],
  ])("refuses %s", async (_, act) => {
    expect(await Promise.resolve(act()).catch((reason: unknown) => reason)).toBeInstanceOf(InvalidArgumentError);
  });
});
