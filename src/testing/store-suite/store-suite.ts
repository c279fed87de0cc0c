import { afterEach, describe, expect, test } from "bun:test";
import {
  DistError,
  DistStoreError,
  DistTimeoutError,
  InvalidArgumentError,
  QueueEmptyError,
} from "../../errors/index.ts";
import type { Store } from "../../store/index.ts";
import { declareCallerMemory } from "./caller-memory.ts";

export interface StoreSuiteOptions {
  /** A store without user keys; the suite closes it. */
  open(): Promise<Store>;
  /** What this store cannot do, and why. */
  readonly skip?: readonly { readonly reason: string; readonly tests: readonly string[] }[];
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** Runs the tests that every store has to pass. */
export function testStore(name: string, { open, skip = [] }: StoreSuiteOptions): void {
  describe(`store ${name}`, () => {
    const opened: Store[] = [];
    const reasons = new Map(skip.flatMap(({ reason, tests }) => tests.map((title) => [title, reason] as const)));

    afterEach(async () => {
      for (const store of opened.splice(0)) await store.close();
    });

    function it(title: string, body: (store: Store) => Promise<void>): void {
      const reason = reasons.get(title);
      reasons.delete(title);
      if (reason !== undefined) test.skip(`${title} (skipped: ${reason})`, () => {});
      else
        test(title, async () => {
          const store = await open();
          opened.push(store);
          await body(store);
        });
    }

    /** Runs `act` while `waiting` is pending, which has to resolve because of it. */
    async function woken<T>(waiting: Promise<T>, act: () => Promise<unknown>): Promise<T> {
      await Bun.sleep(10);
      await act();
      return waiting;
    }

    it("set and get bytes", async (store) => {
      const value = Uint8Array.from([0, 255, 10, 0, 128]);
      await store.set("k", value);
      expect(await store.get("k")).toEqual(value);
    });

    it("set and get text", async (store) => {
      await store.set("k", "größe → 1");
      expect(text(await store.get("k"))).toBe("größe → 1");
    });

    it("set replaces", async (store) => {
      await store.set("k", "long value");
      await store.set("k", "v");
      expect(text(await store.get("k"))).toBe("v");
    });

    it("an empty value is a value", async (store) => {
      await store.set("k", "");
      expect(await store.check(["k"])).toBe(true);
      expect(await store.get("k")).toHaveLength(0);
    });

    it("keys of any text", async (store) => {
      const keys = ["", "a b", "ключ/🔑", "line\nbreak", "nul\0", "/", "init/x"];
      for (const [i, key] of keys.entries()) await store.set(key, String(i));
      for (const [i, key] of keys.entries()) expect(text(await store.get(key))).toBe(String(i));
    });

    it("what was stored does not change with the buffer", async (store) => {
      const value = Uint8Array.from([1, 2, 3]);
      await store.set("k", value);
      value.fill(9);
      const got = await store.get("k");
      expect(got).toEqual(Uint8Array.from([1, 2, 3]));
      got.fill(8);
      expect(await store.get("k")).toEqual(Uint8Array.from([1, 2, 3]));
    });

    it("a subarray is stored alone", async (store) => {
      await store.set("k", Uint8Array.from([1, 2, 3, 4]).subarray(1, 3));
      expect(await store.get("k")).toEqual(Uint8Array.from([2, 3]));
    });

    it("a value of 1 MiB", async (store) => {
      const value = new Uint8Array(1 << 20).map((_, i) => i * 31);
      await store.set("k", value);
      expect(Buffer.compare(await store.get("k"), value)).toBe(0);
    });

    it("get waits for set", async (store) => {
      expect(text(await woken(store.get("late"), () => store.set("late", "v")))).toBe("v");
    });

    it("get times out and names the key", async (store) => {
      const started = performance.now();
      const error = await rejection(store.get("absent-key", { timeout: 60 }));
      expect(error).toBeInstanceOf(DistTimeoutError);
      expect(error).toMatchObject({ code: "STORE_TIMEOUT", details: { timeoutMs: 60 } });
      expectKeys(error, ["absent-key"]);
      expect(error.message).toContain("absent-key");
      expect(performance.now() - started).toBeWithin(50, 2_000);
    });

    it("works on after a time-out", async (store) => {
      await rejection(store.get("absent", { timeout: 20 }));
      await rejection(store.wait(["absent", "other"], { timeout: 20 }));
      await store.set("k", "v");
      expect(text(await store.get("k"))).toBe("v");
    });

    it("setTimeout sets the limit of later calls", async (store) => {
      store.setTimeout("40ms");
      expect(store.timeout).toBe(40);
      const late = Bun.sleep(5_000).then(
        () => new Error("a call without a time-out of its own must use that of setTimeout()"),
      );
      expect(await Promise.race([rejection(store.get("absent")), late])).toMatchObject({ details: { timeoutMs: 40 } });
    });

    it("an abort ends a wait with its reason", async (store) => {
      const controller = new AbortController();
      const reason = new Error("enough");
      const waiting = rejection(store.get("absent", { signal: controller.signal }));
      await Bun.sleep(10);
      controller.abort(reason);
      expect(await waiting).toBe(reason);
      expect(await rejection(store.set("k", "v", { signal: controller.signal }))).toBe(reason);
      expect(await store.check(["k"])).toBe(false);
    });

    it("add counts", async (store) => {
      expect(await store.add("c", 5)).toBe(5);
      expect(await store.add("c", -7)).toBe(-2);
      expect(await store.add("c", 0)).toBe(-2);
      expect(text(await store.get("c"))).toBe("-2");
    });

    it("add goes on from decimal text", async (store) => {
      await store.set("c", "41");
      expect(await store.add("c", 1)).toBe(42);
    });

    it("add refuses what is no counter and leaves it", async (store) => {
      for (const value of ["12abc", "abc", " 7", "1.5", "0x10"]) {
        await store.set("c", value);
        const error = await rejection(store.add("c", 1));
        expect(error).toBeInstanceOf(DistStoreError);
        expect(error).toMatchObject({ code: "NOT_A_COUNTER" });
        expectKeys(error, ["c"]);
        expect(text(await store.get("c"))).toBe(value);
      }
    });

    it("add refuses a sum past 2^53 and leaves the counter", async (store) => {
      const most = Number.MAX_SAFE_INTEGER;
      expect(await store.add("c", most)).toBe(most);
      expect(await rejection(store.add("c", 1))).toMatchObject({ code: "COUNTER_OVERFLOW" });
      expect(await store.add("c", -most)).toBe(0);
      expect(await store.add("c", -most)).toBe(-most);
      expect(await rejection(store.add("c", -1))).toMatchObject({ code: "COUNTER_OVERFLOW" });
    });

    it("add wants an integer", async (store) => {
      for (const amount of [1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
        expect(await rejection(store.add("c", amount))).toBeInstanceOf(InvalidArgumentError);
      }
      expect(await store.check(["c"])).toBe(false);
    });

    it("concurrent adds lose nothing", async (store) => {
      const sums = await Promise.all(Array.from({ length: 100 }, () => store.add("c", 1)));
      expect(sums.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
    });

    it("check wants all keys", async (store) => {
      await store.multiSet(["a", "b"], ["1", "2"]);
      expect(await store.check(["a", "b"])).toBe(true);
      expect(await store.check(["a", "c"])).toBe(false);
      expect(await store.check([])).toBe(true);
    });

    it("compareSet: absent key, empty expectation", async (store) => {
      expect(text(await store.compareSet("k", "", "new"))).toBe("new");
      expect(text(await store.get("k"))).toBe("new");
    });

    it("compareSet: absent key, other expectation", async (store) => {
      expect(text(await store.compareSet("k", "old", "new"))).toBe("old");
      expect(await store.check(["k"])).toBe(false);
    });

    it("compareSet: equal value", async (store) => {
      await store.set("k", "old");
      expect(text(await store.compareSet("k", "old", "new"))).toBe("new");
      expect(text(await store.get("k"))).toBe("new");
    });

    it("compareSet: other value", async (store) => {
      await store.set("k", "other");
      expect(text(await store.compareSet("k", "old", "new"))).toBe("other");
      expect(text(await store.compareSet("k", "", "new"))).toBe("other");
      expect(text(await store.get("k"))).toBe("other");
    });

    it("compareSet: empty value, empty expectation", async (store) => {
      await store.set("k", "");
      expect(text(await store.compareSet("k", "", "new"))).toBe("new");
      expect(text(await store.get("k"))).toBe("new");
    });

    it("one of many compareSets wins", async (store) => {
      const wanted = Array.from({ length: 20 }, (_, i) => `rank ${i}`);
      const seen = await Promise.all(wanted.map((value) => store.compareSet("k", "", value)));
      const winner = text(await store.get("k"));
      expect(wanted).toContain(winner);
      expect(seen.map(text)).toEqual(wanted.map(() => winner));
    });

    it("deleteKey tells whether the key was there", async (store) => {
      await store.set("k", "v");
      expect(await store.deleteKey("k")).toBe(true);
      expect(await store.deleteKey("k")).toBe(false);
      expect(await store.check(["k"])).toBe(false);
    });

    it("numKeys counts", async (store) => {
      const before = await store.numKeys();
      await store.multiSet(["a", "b", "a"], ["1", "2", "3"]);
      expect(await store.numKeys()).toBe(before + 2);
      await store.deleteKey("a");
      expect(await store.numKeys()).toBe(before + 1);
    });

    it("wait for nothing", async (store) => {
      await store.wait([]);
    });

    it("wait for keys that are there, twice named", async (store) => {
      await store.set("a", "1");
      await store.wait(["a", "a"]);
    });

    it("wait is woken by the last of its keys", async (store) => {
      let done = false;
      const waiting = store.wait(["a", "b"]).then(() => {
        done = true;
      });
      await woken(Promise.resolve(), () => store.set("a", "1"));
      await Bun.sleep(20);
      expect(done).toBe(false);
      await store.set("b", "2");
      await waiting;
    });

    it("wait times out and names only what is missing", async (store) => {
      await store.set("here", "1");
      const error = await rejection(store.wait(["here", "gone-1", "gone-2"], { timeout: 40 }));
      expect(error).toBeInstanceOf(DistTimeoutError);
      expectKeys(error, ["gone-1", "gone-2"]);
    });

    it("add wakes waiters", async (store) => {
      expect(text(await woken(store.get("k"), () => store.add("k", 3)))).toBe("3");
    });

    it("append wakes waiters", async (store) => {
      expect(text(await woken(store.get("k"), () => store.append("k", "x")))).toBe("x");
    });

    it("multiSet wakes waiters", async (store) => {
      await woken(store.wait(["a", "b"]), () => store.multiSet(["a", "b"], ["1", "2"]));
    });

    it("a compareSet that sets wakes waiters", async (store) => {
      expect(text(await woken(store.get("k"), () => store.compareSet("k", "", "x")))).toBe("x");
    });

    it("a compareSet that does nothing wakes nobody", async (store) => {
      const waiting = rejection(store.wait(["k"], { timeout: 80 }));
      await Bun.sleep(10);
      await store.compareSet("k", "old", "new");
      expect(await waiting).toBeInstanceOf(DistTimeoutError);
    });

    it("a pending wait holds up no other call", async (store) => {
      const waiting = [store.get("a"), store.get("b"), store.wait(["a", "c"])];
      const started = performance.now();
      for (let i = 0; i < 20; i++) expect(await store.add("n", 1)).toBe(i + 1);
      expect(performance.now() - started).toBeLessThan(1_000);
      await store.multiSet(["a", "b", "c"], ["1", "2", "3"]);
      await Promise.all(waiting);
    });

    it("40 waits at a time", async (store) => {
      const waits = Array.from({ length: 40 }, (_, i) => store.get(`k${i}`));
      await Bun.sleep(20);
      for (let i = 39; i >= 0; i--) await store.set(`k${i}`, String(i));
      expect((await Promise.all(waits)).map(text)).toEqual(waits.map((_, i) => String(i)));
    });

    it("calls take effect in their order", async (store) => {
      for (let i = 0; i < 50; i++) {
        void store.set("k", String(i));
        expect(text(await store.get("k"))).toBe(String(i));
      }
    });

    it("append joins", async (store) => {
      await store.append("k", "ab");
      await store.append("k", Uint8Array.from([99]));
      await store.append("k", "");
      expect(text(await store.get("k"))).toBe("abc");
    });

    it("concurrent appends lose nothing", async (store) => {
      const parts = Array.from({ length: 20 }, (_, i) => `${i};`);
      await Promise.all(parts.map((part) => store.append("k", part)));
      const joined = text(await store.get("k"))
        .split(";")
        .slice(0, -1);
      expect(joined.map(Number).sort((a, b) => a - b)).toEqual(parts.map((_, i) => i));
    });

    it("append adds what is there already once more", async (store) => {
      for (let i = 0; i < 3; i++) await store.append("k", "ab");
      expect(text(await store.get("k"))).toBe("ababab");
      await Promise.all(Array.from({ length: 10 }, () => store.append("l", "x")));
      expect(text(await store.get("l"))).toBe("x".repeat(10));
    });

    it("multiSet and multiGet", async (store) => {
      await store.multiSet(["a", "b", "c"], ["1", Uint8Array.from([50]), ""]);
      expect((await store.multiGet(["c", "a", "b", "a"])).map(text)).toEqual(["", "1", "2", "1"]);
      expect(await store.multiGet([])).toEqual([]);
      await store.multiSet([], []);
    });

    it("multiGet waits for all", async (store) => {
      await store.set("a", "1");
      const values = await woken(store.multiGet(["a", "b"]), () => store.set("b", "2"));
      expect(values.map(text)).toEqual(["1", "2"]);
    });

    it("multiSet wants as many values as keys", async (store) => {
      expect(await rejection(store.multiSet(["a", "b"], ["1"]))).toBeInstanceOf(InvalidArgumentError);
      expect(await store.check(["a"])).toBe(false);
    });

    it("hasExtendedApi is a boolean", async (store) => {
      expect(store.hasExtendedApi()).toBeBoolean();
    });

    it("queues are first in, first out", async (store) => {
      await store.queuePush("q", "1");
      await store.queuePush("q", "2");
      expect(await store.queueLen("q")).toBe(2);
      expect(text(await store.queuePop("q"))).toBe("1");
      expect(text(await store.queuePop("q", { block: false }))).toBe("2");
      expect(await store.queueLen("q")).toBe(0);
      expect(await rejection(store.queuePop("q", { block: false }))).toBeInstanceOf(QueueEmptyError);
    });

    it("queuePop waits for an element", async (store) => {
      expect(text(await woken(store.queuePop("q"), () => store.queuePush("q", "v")))).toBe("v");
      expect(await rejection(store.queuePop("q", { timeout: 30 }))).toBeInstanceOf(DistTimeoutError);
    });

    it("each element of a queue goes to one", async (store) => {
      const pops = Array.from({ length: 10 }, () => store.queuePop("q"));
      await Bun.sleep(10);
      for (let i = 0; i < 10; i++) await store.queuePush("q", String(i));
      const values = (await Promise.all(pops)).map((value) => Number(text(value)));
      expect(values.sort((a, b) => a - b)).toEqual(pops.map((_, i) => i));
      expect(await store.queueLen("q")).toBe(0);
    });

    it("listKeys", async (store) => {
      await store.multiSet(["a", "b/c"], ["1", "2"]);
      expect((await store.listKeys()).sort()).toEqual(["a", "b/c"]);
    });

    it("barrier lets nobody through before all are there", async (store) => {
      let through = 0;
      const first = [1, 2].map(() => store.barrier("B", 3).then(() => through++));
      await Bun.sleep(30);
      expect(through).toBe(0);
      await store.barrier("B", 3);
      await Promise.all(first);
      expect(await rejection(store.barrier("B", 0))).toBeInstanceOf(InvalidArgumentError);
    });

    it("a barrier that times out tells how many have come", async (store) => {
      const late = await rejection(store.barrier("B", 3, { timeout: 40 }));
      expect(late).toBeInstanceOf(DistTimeoutError);
      expect(late).toMatchObject({ code: "STORE_TIMEOUT", details: { op: "barrier", timeoutMs: 40 } });
      expect(late).toHaveProperty("message", expect.stringMatching(/barrier .*B: timed out after 40 ms.*only 1 of 3/));
    });

    it("a clone has the same data and a life of its own", async (store) => {
      const twin = await store.clone();
      opened.push(twin);
      await store.set("k", "v");
      expect(text(await twin.get("k"))).toBe("v");
      expect(text(await woken(store.get("l"), () => twin.set("l", "w")))).toBe("w");
      await twin.set("m", Buffer.from("x"));
      (await twin.get("m")).fill(0);
      expect(text(await store.get("m"))).toBe("x");
      await twin.close();
      expect(text(await store.get("k"))).toBe("v");
    });

    declareCallerMemory(it);

    it("bad arguments are refused by a rejection", async (store) => {
      const nothing = undefined as unknown as string;
      const calls = [
        () => store.set(nothing, "v"),
        () => store.set("k", nothing),
        () => store.get(nothing),
        () => store.wait(nothing as unknown as string[]),
        () => store.check([nothing]),
        // UTF-8 cannot encode a lone surrogate.
        () => store.set("k", "\ud800"),
        () => store.set("\udfff", "v"),
        () => store.check(["k", "\ud800"]),
        () => store.get("k", { timeout: 0 }),
        () => store.get("k", { timeout: "soon" }),
      ];
      for (const call of calls) expect(await rejection(call())).toBeInstanceOf(InvalidArgumentError);
    });

    it("close rejects what is pending and what comes later", async (store) => {
      const waiting = rejection(store.get("absent"));
      await Bun.sleep(10);
      await store.close();
      expect(await waiting).toMatchObject({ code: "STORE_CLOSED" });
      expect(await rejection(store.set("k", "v"))).toMatchObject({ code: "STORE_CLOSED" });
      await store.close();
    });

    test("everything skipped exists", () => {
      expect([...reasons.keys()]).toEqual([]);
    });
  });
}

/** The keys that an error names; a prefix may have been added to them. */
function expectKeys(error: Error, keys: readonly string[]): void {
  const named = error instanceof DistError ? (error.details.keys ?? []) : [];
  expect(named.map((key) => key.slice(key.lastIndexOf("/") + 1))).toEqual([...keys]);
}

/** The error that a promise rejects with; fails if it resolves. */
async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("expected a rejection");
}
