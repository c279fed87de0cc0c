import {
  brand,
  DistStoreError,
  DistTimeoutError,
  QueueEmptyError,
  UnsupportedOperationError,
} from "../errors/index.ts";
import { defaultTimeoutMs, pause, type Timeout, timeoutMs } from "../time/index.ts";
import { checkKeys, checkPairs, checkWorldSize } from "./arguments.ts";
import { ownBytes, type StoreValue } from "./store-value.ts";

export type { StoreValue } from "./store-value.ts";

/** Limits of one store call. */
export interface StoreCallOptions {
  /** Defaults to the store's own time-out ({@link Store.setTimeout}, 300 s at first). */
  readonly timeout?: Timeout;
  /** Ends the call early; it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What {@link Store.queuePop} takes besides the key. */
export interface QueuePopOptions extends StoreCallOptions {
  /** Whether to wait for an element (default) or to reject with {@link QueueEmptyError} at once. */
  readonly block?: boolean;
}

/**
 * A key-value store that ranks meet in. Values are bytes; strings are taken as UTF-8.
 *
 * Extend it to bring your own: `set`, `get`, `add`, `check`, `compareSet` and `deleteKey` are enough, the rest is built
 * on them. Override `wait` if the store can notify of new keys, since the default polls.
 *
 * c10d: `torch.distributed.Store`.
 */
export abstract class Store implements AsyncDisposable {
  static {
    brand(Store, "Store");
  }
  #timeoutMs: number = defaultTimeoutMs.store;

  /** Time-out of every call without its own, in milliseconds. */
  get timeout(): number {
    return this.#timeoutMs;
  }

  /** Sets the time-out of every call without its own. */
  setTimeout(timeout: Timeout): void {
    this.#timeoutMs = timeoutMs(timeout, defaultTimeoutMs.store);
  }

  /**
   * The local IP address from which this store's server is reached: peers that meet in the store can reach this
   * process there. `undefined` for stores without a network.
   */
  get localAddress(): string | undefined {
    return undefined;
  }

  /**
   * Stores `value` under `key`, replacing the old value. A store copies the bytes before it returns, and returns
   * copies.
   */
  abstract set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void>;

  /**
   * The value of `key`, waiting until it exists.
   * @throws DistTimeoutError naming the key.
   */
  abstract get(key: string, options?: StoreCallOptions): Promise<Uint8Array>;

  /**
   * Adds an integer to the counter at `key` (0 if absent) and resolves to the new value. Atomic.
   * @throws DistStoreError when the value is not a counter or leaves ±2^53.
   */
  abstract add(key: string, amount: number, options?: StoreCallOptions): Promise<number>;

  /** Whether all keys exist. Does not wait. */
  abstract check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean>;

  /**
   * Sets `key` to `desired` if its value equals `expected` (an absent key equals the empty value) and resolves to the
   * value that is there afterwards; for an absent key and a non-empty `expected` that is `expected`, as in c10d.
   */
  abstract compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array>;

  /** Removes `key`; resolves to whether it existed. */
  abstract deleteKey(key: string, options?: StoreCallOptions): Promise<boolean>;

  /**
   * Resolves when all keys exist.
   * @throws DistTimeoutError naming the keys that are missing.
   */
  async wait(keys: readonly string[], options: StoreCallOptions = {}): Promise<void> {
    const limitMs = timeoutMs(options.timeout, this.timeout);
    const deadline = performance.now() + limitMs;
    checkKeys("wait", keys);
    const wanted = [...keys];
    for (let delay = 1; !(await this.check(wanted, remaining(deadline, options))); delay = Math.min(delay * 2, 50)) {
      const left = deadline - performance.now();
      if (left <= 0) throw await this.waitTimeout("wait", wanted, limitMs);
      await pause(Math.min(delay, left), options.signal);
    }
  }

  /**
   * Adds bytes to the end of a value; an absent key counts as empty. Atomic. The default uses the key
   * `<key>/append/turn` as a lock, since `compareSet` cannot distinguish equal bytes of different writers. A writer
   * that dies with the lock keeps it until that key is deleted.
   */
  async append(key: string, value: StoreValue, options: StoreCallOptions = {}): Promise<void> {
    const addition = ownBytes(value);
    const limitMs = timeoutMs(options.timeout, this.timeout);
    const deadline = performance.now() + limitMs;
    const turn = `${key}/append/turn`;
    const own = encoder.encode(crypto.randomUUID());
    for (let delay = 1; ; delay = Math.min(delay * 2, 50)) {
      const holder = await this.compareSet(turn, "", own, remaining(deadline, options));
      if (Buffer.compare(holder, own) === 0) break;
      const left = deadline - performance.now();
      if (left <= 0) throw turnTimeout(key, turn, limitMs);
      await pause(Math.min(delay * Math.random(), left), options.signal);
    }
    try {
      for (;;) {
        const limits = remaining(deadline, options);
        // A read that does not wait: for an absent key it returns what was expected.
        const now = await this.compareSet(key, own, own, limits);
        const current = Buffer.compare(now, own) === 0 ? new Uint8Array(0) : now;
        const desired = Buffer.concat([current, addition]);
        if (Buffer.compare(await this.compareSet(key, current, desired, limits), desired) === 0) return;
        if (performance.now() >= deadline) {
          throw storeTimeout("append", [key], limitMs, ", since other writers kept changing the value");
        }
      }
    } finally {
      await this.deleteKey(turn, { timeout: Math.max(deadline - performance.now(), leastLeaveMs) });
    }
  }

  /** The values of all keys, in their order, waiting until all are there. */
  async multiGet(keys: readonly string[], options: StoreCallOptions = {}): Promise<Uint8Array[]> {
    const deadline = performance.now() + timeoutMs(options.timeout, this.timeout);
    checkKeys("multiGet", keys);
    const wanted = [...keys];
    await this.wait(wanted, options);
    return Promise.all(wanted.map((key) => this.get(key, remaining(deadline, options))));
  }

  /** Sets several keys. */
  async multiSet(
    keys: readonly string[],
    values: readonly StoreValue[],
    options: StoreCallOptions = {},
  ): Promise<void> {
    checkPairs(keys, values);
    const bytes = values.map(ownBytes);
    await Promise.all(keys.map((key, i) => this.set(key, bytes[i] ?? "", options)));
  }

  /** Adds an element to the end of the queue `key`. Queues and plain keys are separate. */
  async queuePush(key: string, value: StoreValue, options: StoreCallOptions = {}): Promise<void> {
    // Before the first `await`, after which the caller may reuse its memory.
    const bytes = ownBytes(value);
    const ticket = await this.add(`${key}/queue/tail`, 1, options);
    await this.set(`${key}/queue/${ticket}`, bytes, options);
  }

  /**
   * Removes the first element of the queue `key` and resolves to it, waiting for one.
   * @throws QueueEmptyError when there is none and `block` is false; DistTimeoutError when none was pushed in time.
   */
  async queuePop(key: string, options: QueuePopOptions = {}): Promise<Uint8Array> {
    const limitMs = timeoutMs(options.timeout, this.timeout);
    const deadline = performance.now() + limitMs;
    const headKey = `${key}/queue/head`;
    const absent = crypto.getRandomValues(new Uint8Array(16));
    for (let delay = 1; ; delay = Math.min(delay * 2, 50)) {
      const limits = remaining(deadline, options);
      const head = await this.add(headKey, 0, limits);
      const next = `${key}/queue/${head + 1}`;
      // A read that does not wait: for an absent key it returns what was expected.
      const value = await this.compareSet(next, absent, absent, limits);
      if (Buffer.compare(value, absent) !== 0) {
        await this.compareSet(headKey, String(head), String(head + 1), limits);
        // Other callers may have reached this point: the deletion decides which one gets the element.
        if (await this.deleteKey(next, limits)) return value;
        delay = 1;
        continue;
      }
      if (options.block === false) {
        if ((await this.add(headKey, 0, limits)) === head) throw queueEmpty(key);
        continue;
      }
      const left = deadline - performance.now();
      if (left <= 0) throw storeTimeout("queuePop", [key], limitMs);
      await pause(Math.min(delay, left), options.signal);
    }
  }

  /** Number of elements in the queue `key`. */
  async queueLen(key: string, options: StoreCallOptions = {}): Promise<number> {
    const [head, tail] = await Promise.all([
      this.add(`${key}/queue/head`, 0, options),
      this.add(`${key}/queue/tail`, 0, options),
    ]);
    return tail - head;
  }

  /** All keys, without those of queues. */
  listKeys(_options?: StoreCallOptions): Promise<string[]> {
    return Promise.reject(unsupported(this, "listKeys"));
  }

  /**
   * Resolves when `worldSize` callers have arrived at the barrier `key`. A barrier can be used once: each call counts,
   * so a caller that timed out and calls again counts twice.
   * @throws DistTimeoutError with the number of arrivals.
   */
  async barrier(key: string, worldSize: number, options: StoreCallOptions = {}): Promise<void> {
    checkWorldSize("barrier", worldSize);
    const limitMs = timeoutMs(options.timeout, this.timeout);
    const deadline = performance.now() + limitMs;
    const [members, last] = [`${key}/num_members`, `${key}/last_member`];
    const arrived = await this.add(members, 1, options);
    if (arrived === worldSize) await this.set(last, "1", remaining(deadline, options));
    try {
      await this.wait([last], remaining(deadline, options));
    } catch (error) {
      if (!(error instanceof DistTimeoutError)) throw error;
      const brief = { timeout: Math.min(limitMs, 1_000) };
      const count = await this.add(members, 0, brief).catch(() => arrived);
      throw barrierTimeout(key, count, worldSize, limitMs);
    }
  }

  /** Number of keys. */
  numKeys(_options?: StoreCallOptions): Promise<number> {
    return Promise.reject(unsupported(this, "numKeys"));
  }

  /** Whether `append`, `multiGet` and `multiSet` are single requests here rather than built on other calls. */
  hasExtendedApi(): boolean {
    return false;
  }

  /** Another handle on the same data, with its own connection where there is one. */
  clone(): Promise<Store> {
    return Promise.reject(unsupported(this, "clone"));
  }

  /** Releases what the handle holds; calls in flight reject. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The error of a wait that timed out, naming those of `keys` that are still missing. */
  protected async waitTimeout(op: string, keys: readonly string[], limitMs: number): Promise<DistTimeoutError> {
    const brief: StoreCallOptions = { timeout: Math.min(limitMs, 1_000) };
    const present = await Promise.all(keys.map((key) => this.check([key], brief).catch(() => false)));
    const missing = keys.filter((_, i) => !present[i]);
    return storeTimeout(op, missing.length > 0 ? missing : keys, limitMs);
  }
}

/** The error of a store call that timed out while `keys` were missing. */
export function storeTimeout(op: string, keys: readonly string[], limitMs: number, where = ""): DistTimeoutError {
  const shown = keys.length > 8 ? [...keys.slice(0, 8), `… ${keys.length - 8} more`] : keys;
  return new DistTimeoutError(
    `store ${op}: timed out after ${Math.round(limitMs)} ms${where}; still missing: ${shown.join(", ")}. ` +
      "Is the rank that sets it running, and has it reached this point?",
    { code: "STORE_TIMEOUT", op, keys: [...keys], timeoutMs: limitMs },
  );
}

/** The error of a barrier that timed out; `arrived` is the number of arrivals, if known. */
export function barrierTimeout(
  key: string,
  arrived: number | undefined,
  worldSize: number,
  limitMs: number,
  where = "",
): DistTimeoutError {
  const others = arrived === undefined ? `not all of ${worldSize}` : `only ${arrived} of ${worldSize}`;
  return new DistTimeoutError(
    `store barrier ${key}: timed out after ${Math.round(limitMs)} ms${where}; ${others} have arrived. ` +
      "Are the others running, and have they reached this point?",
    { code: "STORE_TIMEOUT", op: "barrier", keys: [key], timeoutMs: limitMs },
  );
}

/** The error of `queuePop({ block: false })` on an empty queue. */
export function queueEmpty(key: string): QueueEmptyError {
  return new QueueEmptyError(`store queuePop: queue ${key} is empty`, { op: "queuePop", keys: [key] });
}

/** The error of a call on a store handle that was closed. */
export function storeClosed(op: string): DistStoreError {
  return new DistStoreError(`store ${op}: this store handle is closed. Open or connect a new one.`, {
    code: "STORE_CLOSED",
    op,
  });
}

function turnTimeout(key: string, turn: string, limitMs: number): DistTimeoutError {
  return new DistTimeoutError(
    `store append: timed out after ${Math.round(limitMs)} ms while another writer of key ${key} held its lock, the key ${turn}. If that writer has died, delete that key.`,
    { code: "STORE_TIMEOUT", op: "append", keys: [key], timeoutMs: limitMs },
  );
}

/** The options for the next step of a call that ends at `deadline`. */
function remaining(deadline: number, options: StoreCallOptions): StoreCallOptions {
  const timeout = Math.max(deadline - performance.now(), 1);
  return options.signal ? { timeout, signal: options.signal } : { timeout };
}

const encoder = new TextEncoder();
/** The minimum time to release the lock of `append` when that of the call is over. */
const leastLeaveMs = 1_000;

function unsupported(store: Store, op: string): UnsupportedOperationError {
  return new UnsupportedOperationError(`${store.constructor.name} does not implement ${op}`, { op });
}
