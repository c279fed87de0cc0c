import { expect, test } from "bun:test";
import { testStore } from "../testing/store-suite/store-suite.ts";
import { HashStore } from "./hash-store.ts";
import { Store, type StoreCallOptions, type StoreValue } from "./store.ts";

/** A store that implements only the six methods. */
class MinimalStore extends Store {
  readonly #inner: HashStore;

  constructor(inner = new HashStore()) {
    super();
    this.#inner = inner;
  }

  set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.#inner.set(key, value, options);
  }

  async get(key: string, options: StoreCallOptions = {}): Promise<Uint8Array> {
    return this.#inner.get(key, { timeout: this.timeout, ...options });
  }

  add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    return this.#inner.add(key, amount, options);
  }

  check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return this.#inner.check(keys, options);
  }

  compareSet(key: string, expected: StoreValue, desired: StoreValue, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.#inner.compareSet(key, expected, desired, options);
  }

  deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.#inner.deleteKey(key, options);
  }

  override close(): Promise<void> {
    return this.#inner.close();
  }
}

testStore("with the six methods only", {
  open: async () => new MinimalStore(),
  skip: [
    {
      reason: "these cannot be built on the six methods",
      tests: ["numKeys counts", "listKeys", "a clone has the same data and a life of its own"],
    },
  ],
});

test("append names the lock of a writer that died, and works again when it is deleted", async () => {
  const store = new MinimalStore();
  await store.append("log", "a");
  await store.set("log/append/turn", "of a writer that died");
  const late = store.append("log", "b", { timeout: 60 });
  await expect(late).rejects.toMatchObject({ code: "STORE_TIMEOUT", details: { op: "append", keys: ["log"] } });
  await expect(late).rejects.toThrow("held its lock, the key log/append/turn. If that writer has died");
  await store.deleteKey("log/append/turn");
  await store.append("log", "c");
  expect(new TextDecoder().decode(await store.get("log"))).toBe("ac");
});
