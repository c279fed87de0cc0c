import { timeoutMs } from "../time/index.ts";
import { checkAmount, checkKeys, checkPairs } from "./arguments.ts";
import { KeyValueTable, safeIntegerRange } from "./key-value-table.ts";
import { PendingWaits } from "./pending-waits.ts";
import {
  type QueuePopOptions,
  queueEmpty,
  Store,
  type StoreCallOptions,
  type StoreValue,
  storeClosed,
} from "./store.ts";
import { ownBytes } from "./store-value.ts";

/**
 * A store in the memory of this process, for ranks that live in it and for tests. Clones share the data.
 *
 * c10d: `torch.distributed.HashStore`. Unlike there, every op that makes a key present wakes its waiters.
 */
export class HashStore extends Store {
  #table = new KeyValueTable();
  readonly #waits = new PendingWaits();
  #closed = false;

  async set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    this.#begin("set", [key], options);
    this.#table.set(key, ownBytes(value));
  }

  async get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    const limitMs = timeoutMs(options?.timeout, this.timeout);
    const deadline = performance.now() + limitMs;
    for (;;) {
      this.#begin("get", [key], options);
      const value = this.#table.get(key);
      if (value !== undefined) return ownBytes(value);
      // A filled queue of this name satisfies a wait, as in c10d, but has no value.
      if (this.#table.has(key)) return new Uint8Array(0);
      await this.#waits.add(this.#table.waiters, {
        op: "get",
        keys: [key],
        limitMs,
        deadline,
        signal: options?.signal,
      });
    }
  }

  async add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    this.#begin("add", [key], options);
    checkAmount(key, amount);
    return Number(this.#table.add(key, amount, safeIntegerRange));
  }

  async check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    this.#begin("check", keys, options);
    return this.#table.hasAll(keys);
  }

  async compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    this.#begin("compareSet", [key], options);
    return ownBytes(this.#table.compareSet(key, ownBytes(expected), ownBytes(desired)));
  }

  async deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    this.#begin("deleteKey", [key], options);
    return this.#table.delete(key);
  }

  override async wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    this.#begin("wait", keys, options);
    await this.#wait("wait", [...keys], options);
  }

  override async numKeys(options?: StoreCallOptions): Promise<number> {
    this.#begin("numKeys", [], options);
    return this.#table.size;
  }

  override hasExtendedApi(): boolean {
    return true;
  }

  override async append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    this.#begin("append", [key], options);
    this.#table.append(key, ownBytes(value));
  }

  override async multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    this.#begin("multiGet", keys, options);
    const wanted = [...keys];
    await this.#wait("multiGet", wanted, options);
    return wanted.map((key) => ownBytes(this.#table.get(key) ?? ""));
  }

  override async multiSet(
    keys: readonly string[],
    values: readonly StoreValue[],
    options?: StoreCallOptions,
  ): Promise<void> {
    this.#begin("multiSet", keys, options);
    checkPairs(keys, values);
    const copies = values.map(ownBytes);
    for (const [i, value] of copies.entries()) this.#table.set(keys[i] ?? "", value);
  }

  override async queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    this.#begin("queuePush", [key], options);
    this.#table.queuePush(key, ownBytes(value));
  }

  override async queuePop(key: string, options: QueuePopOptions = {}): Promise<Uint8Array> {
    const limitMs = timeoutMs(options.timeout, this.timeout);
    const deadline = performance.now() + limitMs;
    for (;;) {
      this.#begin("queuePop", [key], options);
      const value = this.#table.queuePop(key);
      if (value !== undefined) return value;
      if (options.block === false) throw queueEmpty(key);
      const wait = { op: "queuePop", keys: [key], limitMs, deadline, signal: options.signal };
      await this.#waits.add(this.#table.queueWaiters, wait);
    }
  }

  override async queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    this.#begin("queueLen", [key], options);
    return this.#table.queueLength(key);
  }

  override async listKeys(options?: StoreCallOptions): Promise<string[]> {
    this.#begin("listKeys", [], options);
    return this.#table.keys();
  }

  override async clone(): Promise<HashStore> {
    this.#begin("clone", []);
    const twin = new HashStore();
    twin.#table = this.#table;
    twin.setTimeout(this.timeout);
    return twin;
  }

  override async close(): Promise<void> {
    this.#closed = true;
    this.#waits.fail(storeClosed("a wait"));
  }

  /** What every call checks first. */
  #begin(op: string, keys: readonly string[], options?: StoreCallOptions): void {
    if (this.#closed) throw storeClosed(op);
    options?.signal?.throwIfAborted();
    timeoutMs(options?.timeout, this.timeout);
    checkKeys(op, keys);
  }

  #wait(op: string, keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    const limitMs = timeoutMs(options?.timeout, this.timeout);
    const deadline = performance.now() + limitMs;
    return this.#waits.add(this.#table.waiters, { op, keys, limitMs, deadline, signal: options?.signal });
  }
}
