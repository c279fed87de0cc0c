import { DistError, DistStoreError, DistTimeoutError, messageOf } from "../errors/index.ts";
import { type Timeout, timeoutMs, withLimit } from "../time/index.ts";
import { type QueuePopOptions, Store, type StoreCallOptions, type StoreValue } from "./store.ts";
import { isBytes, ownBytes } from "./store-value.ts";

/** Time after the limit in which a store can end a call itself, with an error that says more than ours. */
const graceMs = 50;
const closeLimitMs = 5_000;

/** What a method of a store must resolve to. */
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
 * Wraps any store that the library uses, including a user's that ignores limits: each call ends at its time-out or by
 * its signal, a synchronous throw rejects, and a result of the wrong type is an error.
 */
export class LimitedStore extends Store {
  readonly #store: Store;
  readonly #end: AbortSignal | undefined;

  /** Wraps a store, unless it is already wrapped. */
  static of(store: Store): LimitedStore {
    return store instanceof LimitedStore ? store : new LimitedStore(store);
  }

  private constructor(store: Store, end?: AbortSignal) {
    super();
    this.#store = store;
    this.#end = end;
  }

  /** The same store until `end` is aborted, which rejects all calls with its reason. */
  until(end: AbortSignal): LimitedStore {
    return new LimitedStore(this.#store, this.#end === undefined ? end : AbortSignal.any([this.#end, end]));
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
    return this.#call("set", [key], options, nothing, (given) => this.#store.set(key, value, given));
  }

  get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.#call("get", [key], options, bytes, (given) => this.#store.get(key, given));
  }

  add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    return this.#call("add", [key], options, integer, (given) => this.#store.add(key, amount, given));
  }

  check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return this.#call("check", keys, options, boolean, (given) => this.#store.check(keys, given));
  }

  compareSet(key: string, expected: StoreValue, desired: StoreValue, options?: StoreCallOptions): Promise<Uint8Array> {
    const run = (given?: StoreCallOptions) => this.#store.compareSet(key, expected, desired, given);
    return this.#call("compareSet", [key], options, bytes, run);
  }

  deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.#call("deleteKey", [key], options, boolean, (given) => this.#store.deleteKey(key, given));
  }

  override wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    if (!this.#has("wait")) return super.wait(keys, options);
    return this.#call("wait", keys, options, nothing, (given) => this.#store.wait(keys, given));
  }

  override append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    if (!this.#has("append")) return super.append(key, value, options);
    return this.#call("append", [key], options, nothing, (given) => this.#store.append(key, value, given));
  }

  override multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    if (!this.#has("multiGet")) return super.multiGet(keys, options);
    const count = keys?.length;
    const values: Answer<Uint8Array[]> = {
      name: `${count} Uint8Arrays`,
      read: (value) =>
        Array.isArray(value) && value.length === count && value.every(isBytes) ? value.map(ownBytes) : bad,
    };
    return this.#call("multiGet", keys, options, values, (given) => this.#store.multiGet(keys, given));
  }

  override multiSet(keys: readonly string[], values: readonly StoreValue[], options?: StoreCallOptions): Promise<void> {
    if (!this.#has("multiSet")) return super.multiSet(keys, values, options);
    return this.#call("multiSet", keys, options, nothing, (given) => this.#store.multiSet(keys, values, given));
  }

  override queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    if (!this.#has("queuePush")) return super.queuePush(key, value, options);
    return this.#call("queuePush", [key], options, nothing, (given) => this.#store.queuePush(key, value, given));
  }

  override queuePop(key: string, options?: QueuePopOptions): Promise<Uint8Array> {
    if (!this.#has("queuePop")) return super.queuePop(key, options);
    return this.#call("queuePop", [key], options, bytes, (given) => this.#store.queuePop(key, given));
  }

  override queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    if (!this.#has("queueLen")) return super.queueLen(key, options);
    return this.#call("queueLen", [key], options, integer, (given) => this.#store.queueLen(key, given));
  }

  override listKeys(options?: StoreCallOptions): Promise<string[]> {
    if (!this.#has("listKeys")) return super.listKeys(options);
    return this.#call("listKeys", [], options, texts, (given) => this.#store.listKeys(given));
  }

  override barrier(key: string, worldSize: number, options?: StoreCallOptions): Promise<void> {
    if (!this.#has("barrier")) return super.barrier(key, worldSize, options);
    return this.#call("barrier", [key], options, nothing, (given) => this.#store.barrier(key, worldSize, given));
  }

  override numKeys(options?: StoreCallOptions): Promise<number> {
    if (!this.#has("numKeys")) return super.numKeys(options);
    return this.#call("numKeys", [], options, integer, (given) => this.#store.numKeys(given));
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
    run: (options?: StoreCallOptions) => Promise<unknown>,
  ): Promise<T> {
    const limitMs = timeoutMs(options?.timeout, this.timeout);
    const given = this.#withEnd(options);
    const signal = given?.signal;
    signal?.throwIfAborted();
    let value: unknown;
    try {
      value = await withLimit(run(given), limitMs + graceMs, () => this.#silent(op, keys, limitMs), signal);
    } catch (error) {
      if (error instanceof DistError || (signal?.aborted && error === signal.reason)) throw error;
      throw this.#failed(op, keys, error);
    }
    const result = answer.read(value);
    if (result === bad) throw this.#wrong(op, keys, answer.name, value);
    return result;
  }

  #withEnd(options: StoreCallOptions | undefined): StoreCallOptions | undefined {
    const end = this.#end;
    if (end === undefined) return options;
    return { ...options, signal: options?.signal === undefined ? end : AbortSignal.any([options.signal, end]) };
  }

  get #name(): string {
    return this.#store.constructor?.name || "the store";
  }

  #silent(op: string, keys: readonly string[], limitMs: number): DistTimeoutError {
    return new DistTimeoutError(
      `store ${op}${of(keys)}: ${this.#name} did not answer within ${Math.round(limitMs)} ms and did not end the call`,
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
      `store ${op}${of(keys)}: ${this.#name} returned a value of type ${got} where ${op}() must return ${wanted}`,
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
