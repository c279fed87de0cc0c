import { loaded } from "../../errors/index.ts";
import { timeoutMs } from "../../time/index.ts";
import { checkAmount, checkKeys, checkMade, checkPairs, checkWorldSize } from "../arguments.ts";
import {
  type QueuePopOptions,
  queueEmpty,
  Store,
  type StoreCallOptions,
  type StoreValue,
  storeClosed,
} from "../store.ts";
import { ownBytes } from "../store-value.ts";
import type { RedisCall } from "./redis-link.ts";
import type { RedisSession } from "./redis-session.ts";

/** What `RedisStore.connect` takes besides the URL. */
export interface RedisStoreOptions extends StoreCallOptions {
  /** The prefix of all names in Redis, so that jobs do not collide. Default: that of the URL, else `c10d`. */
  readonly prefix?: string;
  /** When as many handles, not counting clones, were closed, everything under the prefix is removed. Default: never. */
  readonly worldSize?: number;
  /** For `rediss://`: certificates and the like, as for `Bun.connect`. */
  readonly tls?: Bun.TLSOptions;
}

/**
 * A store on a Redis (or Valkey) server, without a Redis module or setting: every call is one atomic script, and waits
 * are woken by a message that the script publishes when it sets the key.
 *
 * When the connection is lost, the calls in flight reject with `DistNetworkError`, since it is unknown whether they
 * took effect; the next call reconnects, for up to 5 s. An idle store does not keep the process alive.
 *
 * Under the prefix `p` it uses the keys `p:values`, `p:queues`, `p:closed` and the channels `p:key:…`. They stay after
 * the job unless `worldSize` is given: a new job needs another prefix. Redis Cluster is not supported.
 */
export class RedisStore extends Store {
  /** The prefix of all names in Redis. */
  readonly prefix: string;
  readonly #session: RedisSession;
  readonly #open: () => Promise<RedisStore>;
  readonly #worldSize: number | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Connects to `redis[s]://[[user]:password@]host[:port][/db][/prefix]` or `redis+unix:///socket?prefix=…`, and
   * retries until the time-out, which also applies to later calls.
   * @throws DistTimeoutError `CONNECT_TIMEOUT`; DistStoreError `AUTH_FAILED`, `SERVER_REFUSED`; InvalidArgumentError.
   */
  static async connect(url: string, options: RedisStoreOptions = {}): Promise<RedisStore> {
    const limitMs = timeoutMs(options.timeout, 300_000);
    if (options.worldSize !== undefined) checkWorldSize("connect", options.worldSize);
    options.signal?.throwIfAborted();
    const { RedisSession } = await loaded(import("./redis-session.ts"));
    const deadline = performance.now() + limitMs;
    const call = { op: "connect", keys: [], limitMs, deadline, signal: options.signal };
    const session = await RedisSession.connect(url, options, call);
    const { worldSize: _, signal: __, ...others } = options;
    const store = new RedisStore(session, options.worldSize, () => RedisStore.connect(url, others));
    store.setTimeout(limitMs);
    return store;
  }

  private constructor(session: RedisSession, worldSize: number | undefined, open: () => Promise<RedisStore>) {
    super();
    checkMade(session, "RedisStore", "RedisStore.connect(url)");
    this.prefix = session.prefix;
    this.#session = session;
    this.#worldSize = worldSize;
    this.#open = open;
  }

  override get localAddress(): string | undefined {
    return this.#session.localAddress;
  }

  async set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    const call = this.#call("set", [key], options);
    await this.#session.set(call, [key], [ownBytes(value)]);
  }

  async get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    const [value = new Uint8Array(0)] = await this.#getAll(this.#call("get", [key], options));
    return value;
  }

  async add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    checkAmount(key, amount);
    return this.#session.add(this.#call("add", [key], options), key, amount);
  }

  async check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    const missing = await this.#session.missing(this.#call("check", keys, options));
    return missing.length === 0;
  }

  async compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    const call = this.#call("compareSet", [key], options);
    return this.#session.compareSet(call, key, ownBytes(expected), ownBytes(desired));
  }

  async deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.#session.delete(this.#call("deleteKey", [key], options), key);
  }

  override async wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    const call = this.#call("wait", keys, options);
    await this.#session.until(call, async () => ((await this.#session.missing(call)).length === 0 ? true : undefined));
  }

  override async numKeys(options?: StoreCallOptions): Promise<number> {
    return this.#session.count(this.#call("numKeys", [], options));
  }

  override hasExtendedApi(): boolean {
    return true;
  }

  override async append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    await this.#session.append(this.#call("append", [key], options), key, ownBytes(value));
  }

  override async multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    return this.#getAll(this.#call("multiGet", keys, options));
  }

  override async multiSet(
    keys: readonly string[],
    values: readonly StoreValue[],
    options?: StoreCallOptions,
  ): Promise<void> {
    checkPairs(keys, values);
    await this.#session.set(this.#call("multiSet", keys, options), keys, values.map(ownBytes));
  }

  override async queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    await this.#session.push(this.#call("queuePush", [key], options), key, ownBytes(value));
  }

  override async queuePop(key: string, options: QueuePopOptions = {}): Promise<Uint8Array> {
    const call = this.#call("queuePop", [key], options);
    if (options.block !== false) return this.#session.until(call, () => this.#session.pop(call, key));
    const element = await this.#session.pop(call, key);
    if (element === undefined) throw queueEmpty(key);
    return element;
  }

  override async queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    return this.#session.queueLength(this.#call("queueLen", [key], options), key);
  }

  override async listKeys(options?: StoreCallOptions): Promise<string[]> {
    return this.#session.keys(this.#call("listKeys", [], options));
  }

  /** Another connection; it does not count among the handles of `worldSize`. */
  override async clone(): Promise<RedisStore> {
    this.#call("clone", []);
    const twin = await this.#open();
    twin.setTimeout(this.timeout);
    return twin;
  }

  /** Closes the connection; calls in flight reject. With `worldSize`, the last one to close removes everything. */
  override close(): Promise<void> {
    this.#closing ??= this.#session.close(this.#worldSize);
    return this.#closing;
  }

  #getAll(call: RedisCall): Promise<Uint8Array[]> {
    return this.#session.until(call, () => this.#session.get(call));
  }

  /** What every call checks first. */
  #call(op: string, keys: readonly string[], options?: StoreCallOptions): RedisCall {
    if (this.#closing) throw storeClosed(op);
    checkKeys(op, keys);
    options?.signal?.throwIfAborted();
    const limitMs = timeoutMs(options?.timeout, this.timeout);
    return { op, keys: [...keys], limitMs, deadline: performance.now() + limitMs, signal: options?.signal };
  }
}
