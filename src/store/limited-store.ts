import { DistError, DistStoreError, DistTimeoutError, messageOf, type Timeout, timeoutMs } from "../errors/index.ts";
import { withLimit } from "./deadline.ts";
import { type QueuePopOptions, Store, type StoreCallOptions, type StoreValue } from "./store.ts";
import { isBytes, ownBytes } from "./store-value.ts";

/** Time beyond the limit in which a store can end a call by itself, with an error that says more than ours. */
const graceMs = 50;
const closeLimitMs = 5_000;

/** What a method of a store has to resolve to. */
interface Answer<T> {
  readonly name: string;
  readonly read: (value: unknown) => T | typeof bad;
}

const bad = Symbol("bad answer");
const nothing: Answer<void> = { name: "nothing", read: () => undefined };
const boolean: Answer<boolean> = {
  name: "a boolean",
  read: (value) => (typeof value === "boolean" ? value : bad),
};
const integer: Answer<number> = {
  name: "an integer within ±2^53",
  read: (value) => (Number.isSafeInteger(value) ? (value as number) : bad),
};
const bytes: Answer<Uint8Array> = {
  name: "a Uint8Array",
  read: (value) => (isBytes(value) ? ownBytes(value) : bad),
};
const texts: Answer<string[]> = {
  name: "an array of strings",
  read: (value) => (Array.isArray(value) && value.every((each) => typeof each === "string") ? [...value] : bad),
};

/**
 * Any store as the library calls it, also one of a user's own that keeps no limit: each call ends by its time-out and its
 * signal, what is thrown at once rejects, and an answer of another kind than the method has to give is an error.
 */
export class LimitedStore extends Store {
  readonly #store: Store;

  /** The store itself where it is limited already. */
  static of(store: Store): LimitedStore {
    return store instanceof LimitedStore ? store : new LimitedStore(store);
  }

  private constructor(store: Store) {
    super();
    this.#store = store;
  }

  override get timeout(): number {
    const { timeout } = this.#store;
    return typeof timeout === "number" && timeout > 0 ? timeout : super.timeout;
  }

  override setTimeout(timeout: Timeout): void {
    super.setTimeout(timeout);
    if (this.#has("setTimeout")) this.#store.setTimeout(timeout);
  }

  override get localAddress(): string | undefined {
    const { localAddress } = this.#store;
    return typeof localAddress === "string" ? localAddress : undefined;
  }

  set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.#call("set", [key], options, nothing, () => this.#store.set(key, value, options));
  }

  get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.#call("get", [key], options, bytes, () => this.#store.get(key, options));
  }

  add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    return this.#call("add", [key], options, integer, () => this.#store.add(key, amount, options));
  }

  check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return this.#call("check", keys, options, boolean, () => this.#store.check(keys, options));
  }

  compareSet(key: string, expected: StoreValue, desired: StoreValue, options?: StoreCallOptions): Promise<Uint8Array> {
    const run = () => this.#store.compareSet(key, expected, desired, options);
    return this.#call("compareSet", [key], options, bytes, run);
  }

  deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.#call("deleteKey", [key], options, boolean, () => this.#store.deleteKey(key, options));
  }

  override wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    if (!this.#has("wait")) return super.wait(keys, options);
    return this.#call("wait", keys, options, nothing, () => this.#store.wait(keys, options));
  }

  override append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    if (!this.#has("append")) return super.append(key, value, options);
    return this.#call("append", [key], options, nothing, () => this.#store.append(key, value, options));
  }

  override multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    if (!this.#has("multiGet")) return super.multiGet(keys, options);
    const count = keys?.length;
    const values: Answer<Uint8Array[]> = {
      name: `${count} Uint8Arrays`,
      read: (value) =>
        Array.isArray(value) && value.length === count && value.every(isBytes) ? value.map(ownBytes) : bad,
    };
    return this.#call("multiGet", keys, options, values, () => this.#store.multiGet(keys, options));
  }

  override multiSet(keys: readonly string[], values: readonly StoreValue[], options?: StoreCallOptions): Promise<void> {
    if (!this.#has("multiSet")) return super.multiSet(keys, values, options);
    return this.#call("multiSet", keys, options, nothing, () => this.#store.multiSet(keys, values, options));
  }

  override queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    if (!this.#has("queuePush")) return super.queuePush(key, value, options);
    return this.#call("queuePush", [key], options, nothing, () => this.#store.queuePush(key, value, options));
  }

  override queuePop(key: string, options?: QueuePopOptions): Promise<Uint8Array> {
    if (!this.#has("queuePop")) return super.queuePop(key, options);
    return this.#call("queuePop", [key], options, bytes, () => this.#store.queuePop(key, options));
  }

  override queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    if (!this.#has("queueLen")) return super.queueLen(key, options);
    return this.#call("queueLen", [key], options, integer, () => this.#store.queueLen(key, options));
  }

  override listKeys(options?: StoreCallOptions): Promise<string[]> {
    if (!this.#has("listKeys")) return super.listKeys(options);
    return this.#call("listKeys", [], options, texts, () => this.#store.listKeys(options));
  }

  override barrier(key: string, worldSize: number, options?: StoreCallOptions): Promise<void> {
    if (!this.#has("barrier")) return super.barrier(key, worldSize, options);
    return this.#call("barrier", [key], options, nothing, () => this.#store.barrier(key, worldSize, options));
  }

  override numKeys(options?: StoreCallOptions): Promise<number> {
    if (!this.#has("numKeys")) return super.numKeys(options);
    return this.#call("numKeys", [], options, integer, () => this.#store.numKeys(options));
  }

  override hasExtendedApi(): boolean {
    return this.#has("hasExtendedApi") && this.#store.hasExtendedApi() === true;
  }

  override async clone(): Promise<Store> {
    if (!this.#has("clone")) return super.clone();
    const stores: Answer<Store> = {
      name: "a store",
      read: (value) => (typeof value === "object" && value !== null ? (value as Store) : bad),
    };
    return LimitedStore.of(await this.#call("clone", [], undefined, stores, () => this.#store.clone()));
  }

  override async close(): Promise<void> {
    if (!this.#has("close")) return;
    await this.#call("close", [], { timeout: closeLimitMs }, nothing, () => this.#store.close());
  }

  #has(method: keyof Store): boolean {
    return typeof this.#store[method] === "function";
  }

  async #call<T>(
    op: string,
    keys: readonly string[],
    options: StoreCallOptions | undefined,
    answer: Answer<T>,
    run: () => Promise<unknown>,
  ): Promise<T> {
    const limitMs = timeoutMs(options?.timeout, this.timeout);
    const signal = options?.signal;
    signal?.throwIfAborted();
    let value: unknown;
    try {
      value = await withLimit(run(), limitMs + graceMs, () => this.#silent(op, keys, limitMs), signal);
    } catch (error) {
      if (error instanceof DistError || (signal?.aborted && error === signal.reason)) throw error;
      throw this.#failed(op, keys, error);
    }
    const result = answer.read(value);
    if (result === bad) throw this.#wrong(op, keys, answer.name, value);
    return result;
  }

  get #name(): string {
    return this.#store.constructor?.name || "the store";
  }

  #silent(op: string, keys: readonly string[], limitMs: number): DistTimeoutError {
    return new DistTimeoutError(
      `store ${op}${of(keys)}: ${this.#name} has not answered within ${Math.round(limitMs)} ms, nor ended the call by itself`,
      { code: "STORE_TIMEOUT", op, keys: [...keys], timeoutMs: limitMs },
    );
  }

  #failed(op: string, keys: readonly string[], cause: unknown): DistStoreError {
    const why = messageOf(cause);
    return new DistStoreError(`store ${op}${of(keys)}: ${this.#name} failed: ${why}`, {
      code: "STORE_FAILED",
      op,
      keys: [...keys],
      cause,
    });
  }

  #wrong(op: string, keys: readonly string[], wanted: string, value: unknown): DistStoreError {
    const got = value === null ? "null" : typeof value;
    return new DistStoreError(
      `store ${op}${of(keys)}: ${this.#name} gave a value of type ${got} where ${op}() has to give ${wanted}`,
      {
        code: "STORE_BAD_ANSWER",
        op,
        keys: [...keys],
      },
    );
  }
}

function of(keys: readonly string[]): string {
  if (keys.length === 0) return "";
  return ` of ${keys.slice(0, 4).join(", ")}${keys.length > 4 ? ", …" : ""}`;
}
