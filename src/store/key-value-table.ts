import { DistStoreError } from "../errors/index.ts";
import { KeyWaiters } from "./key-waiters.ts";
import { ValueQueue } from "./value-queue.ts";

/** Range of a counter. */
export interface CounterRange {
  readonly min: bigint;
  readonly max: bigint;
  readonly name: string;
}

/** What the wire can carry. */
export const int64Range: CounterRange = { min: -(2n ** 63n), max: 2n ** 63n - 1n, name: "64 bits" };
/** What a number holds exactly. */
export const safeIntegerRange: CounterRange = { min: 1n - 2n ** 53n, max: 2n ** 53n - 1n, name: "±2^53" };

const empty = new Uint8Array(0);

/**
 * The semantics of c10d's stores over a map in memory: pure, without I/O, shared by {@link HashStore} and the TCP
 * server. Values are stored and returned without a copy, so callers copy where they must.
 *
 * Differs from upstream where that is sloppy: a counter is decimal text and nothing else (`"12abc"` is refused), a sum
 * never wraps, every op that makes a key present wakes its waiters, and a `compareSet` that did nothing wakes none.
 */
export class KeyValueTable {
  readonly #values = new Map<string, Uint8Array>();
  readonly #queues = new Map<string, ValueQueue>();
  /** Buffers that {@link append} allocated: the value is at the start, and unused space follows. */
  readonly #growable = new WeakSet<ArrayBufferLike>();
  /** Waiters for keys of this table. */
  readonly waiters = new KeyWaiters((key) => this.has(key));

  /** Waiters for an element of a queue. */
  readonly queueWaiters = new KeyWaiters((key) => this.#queues.has(key));

  /** Number of keys; queues do not count. */
  get size(): number {
    return this.#values.size;
  }

  /** Whether there is a value or a filled queue under `key`. */
  has(key: string): boolean {
    return this.#values.has(key) || this.#queues.has(key);
  }

  hasAll(keys: readonly string[]): boolean {
    return keys.every((key) => this.has(key));
  }

  keys(): string[] {
    return [...this.#values.keys()];
  }

  get(key: string): Uint8Array | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: Uint8Array): void {
    this.#values.set(key, value);
    this.waiters.notify(key);
  }

  /** @throws DistStoreError `NOT_A_COUNTER` or `COUNTER_OVERFLOW`; the value is then unchanged. */
  add(key: string, amount: number | bigint, range: CounterRange): number | bigint {
    const sum = addToCounter(key, this.#values.get(key), amount, range);
    this.set(key, asciiBytes(sum.toString()));
    return sum;
  }

  /** Returns the value that is there afterwards; for an absent key and a non-empty `expected`, `expected`. */
  compareSet(key: string, expected: Uint8Array, desired: Uint8Array): Uint8Array {
    const current = this.#values.get(key);
    if (current === undefined && expected.length > 0) return expected;
    if (current !== undefined && !equalBytes(current, expected)) return current;
    this.set(key, desired);
    return desired;
  }

  /** Does not change the previous value, which callers may hold. */
  append(key: string, value: Uint8Array): void {
    const current = this.#values.get(key) ?? empty;
    const length = current.length + value.length;
    let target: Uint8Array;
    if (this.#growable.has(current.buffer) && length <= current.buffer.byteLength) {
      target = new Uint8Array(current.buffer);
    } else {
      // Twice as much, so that many additions do not copy the whole value each time.
      target = new Uint8Array(Math.max(length, 2 * current.length));
      target.set(current);
      this.#growable.add(target.buffer);
    }
    target.set(value, current.length);
    this.set(key, target.subarray(0, length));
  }

  delete(key: string): boolean {
    return this.#values.delete(key);
  }

  queuePush(key: string, value: Uint8Array): void {
    const queue = this.#queues.get(key) ?? new ValueQueue();
    queue.push(value);
    this.#queues.set(key, queue);
    this.waiters.notify(key);
    this.queueWaiters.notify(key);
  }

  queuePop(key: string): Uint8Array | undefined {
    const queue = this.#queues.get(key);
    const value = queue?.pop();
    if (queue?.length === 0) this.#queues.delete(key);
    return value;
  }

  /** The element that the next {@link queuePop} returns. */
  queueFirst(key: string): Uint8Array | undefined {
    return this.#queues.get(key)?.first;
  }

  queueLength(key: string): number {
    return this.#queues.get(key)?.length ?? 0;
  }

  /** Removes all keys and queues; waiters keep waiting. */
  clear(): void {
    this.#values.clear();
    this.#queues.clear();
  }
}

/**
 * The sum of a counter's text and `amount`; no text counts as 0. `key` is for the message.
 * @throws DistStoreError `NOT_A_COUNTER` or `COUNTER_OVERFLOW`.
 */
export function addToCounter(
  key: string,
  current: Uint8Array | undefined,
  amount: number | bigint,
  range: CounterRange,
): number | bigint {
  if (typeof amount === "number") {
    const sum = shortCounter(current ?? empty) + amount;
    // Both ranges hold every safe integer; NaN is not one.
    if (Number.isSafeInteger(sum)) return sum;
  }
  const sum = parseCounter(key, current ?? empty) + BigInt(amount);
  if (sum < range.min || sum > range.max) throw counterOverflow(key, range.name);
  return sum;
}

/** The number of a short decimal text; NaN for all other texts, valid or not. */
function shortCounter(value: Uint8Array): number {
  const { length } = value;
  if (length > 15) return Number.NaN;
  const negative = value[0] === 0x2d;
  if (negative && length === 1) return Number.NaN;
  let sum = 0;
  for (let i = negative ? 1 : 0; i < length; i++) {
    const digit = (value[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 9) return Number.NaN;
    sum = sum * 10 + digit;
  }
  return negative ? -sum : sum;
}

function asciiBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function parseCounter(key: string, value: Uint8Array): bigint {
  if (value.length === 0) return 0n;
  const text = new TextDecoder().decode(value.subarray(0, 24));
  if (value.length > 20 || !/^[+-]?\d+$/.test(text)) throw notACounter(key, text);
  return BigInt(text.startsWith("+") ? text.slice(1) : text);
}

/** The error of `add` on a value that is not a decimal integer. */
export function notACounter(key: string, text?: string): DistStoreError {
  const what = text === undefined ? "" : ` (it begins with ${JSON.stringify(text)})`;
  return new DistStoreError(
    `store add: the value of key ${key} is not a decimal integer${what}, so nothing was added. Use another key for the counter.`,
    { code: "NOT_A_COUNTER", op: "add", keys: [key] },
  );
}

/** The error of `add` when the sum leaves its range. */
export function counterOverflow(key: string, range: string): DistStoreError {
  return new DistStoreError(`store add: the sum for key ${key} does not fit in ${range}, so nothing was added.`, {
    code: "COUNTER_OVERFLOW",
    op: "add",
    keys: [key],
  });
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
