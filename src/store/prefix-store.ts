import { brand, InvalidArgumentError } from "../errors/index.ts";
import type { Timeout } from "../time/index.ts";
import { checkKey, checkKeys } from "./arguments.ts";
import { type QueuePopOptions, Store, type StoreCallOptions, type StoreValue } from "./store.ts";

/**
 * A view of another store in which every key is `prefix + "/" + key`, so that keys of several users do not collide.
 * Everything else is the other store's: time-outs, {@link numKeys}, the address. Closing it does not close the store
 * below, unless this is a clone.
 *
 * c10d: `torch.distributed.PrefixStore`.
 */
export class PrefixStore extends Store {
  static {
    brand(PrefixStore, "PrefixStore");
  }
  readonly prefix: string;
  /** The store below, one level down. */
  readonly underlyingStore: Store;
  #ownsUnderlying = false;

  constructor(prefix: string, store: Store) {
    super();
    if (typeof prefix !== "string") {
      throw new InvalidArgumentError("PrefixStore: prefix must be a string", { argument: "prefix" });
    }
    if (!(store instanceof Store)) {
      throw new InvalidArgumentError("PrefixStore: store must be a Store", { argument: "store" });
    }
    this.prefix = prefix;
    this.underlyingStore = store;
  }

  /** The store below all prefixes. */
  get underlyingNonPrefixStore(): Store {
    const below = this.underlyingStore;
    return below instanceof PrefixStore ? below.underlyingNonPrefixStore : below;
  }

  override get timeout(): number {
    return this.underlyingStore.timeout;
  }

  override setTimeout(timeout: Timeout): void {
    this.underlyingStore.setTimeout(timeout);
  }

  override get localAddress(): string | undefined {
    return this.underlyingStore.localAddress;
  }

  async set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.underlyingStore.set(this.#join("set", key), value, options);
  }

  async get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.underlyingStore.get(this.#join("get", key), options);
  }

  async add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    return this.underlyingStore.add(this.#join("add", key), amount, options);
  }

  async check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return this.underlyingStore.check(this.#joinAll("check", keys), options);
  }

  async compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    return this.underlyingStore.compareSet(this.#join("compareSet", key), expected, desired, options);
  }

  async deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.underlyingStore.deleteKey(this.#join("deleteKey", key), options);
  }

  override async wait(keys: readonly string[], options?: StoreCallOptions): Promise<void> {
    return this.underlyingStore.wait(this.#joinAll("wait", keys), options);
  }

  /** Number of keys of the whole store below, as in c10d. */
  override numKeys(options?: StoreCallOptions): Promise<number> {
    return this.underlyingStore.numKeys(options);
  }

  override hasExtendedApi(): boolean {
    return this.underlyingStore.hasExtendedApi();
  }

  override async append(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.underlyingStore.append(this.#join("append", key), value, options);
  }

  override async multiGet(keys: readonly string[], options?: StoreCallOptions): Promise<Uint8Array[]> {
    return this.underlyingStore.multiGet(this.#joinAll("multiGet", keys), options);
  }

  override async multiSet(
    keys: readonly string[],
    values: readonly StoreValue[],
    options?: StoreCallOptions,
  ): Promise<void> {
    return this.underlyingStore.multiSet(this.#joinAll("multiSet", keys), values, options);
  }

  override async queuePush(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.underlyingStore.queuePush(this.#join("queuePush", key), value, options);
  }

  override async queuePop(key: string, options?: QueuePopOptions): Promise<Uint8Array> {
    return this.underlyingStore.queuePop(this.#join("queuePop", key), options);
  }

  override async queueLen(key: string, options?: StoreCallOptions): Promise<number> {
    return this.underlyingStore.queueLen(this.#join("queueLen", key), options);
  }

  /** The keys under this prefix, without it. */
  override async listKeys(options?: StoreCallOptions): Promise<string[]> {
    const start = `${this.prefix}/`;
    const keys = await this.underlyingStore.listKeys(options);
    return keys.filter((key) => key.startsWith(start)).map((key) => key.slice(start.length));
  }

  override async barrier(key: string, worldSize: number, options?: StoreCallOptions): Promise<void> {
    return this.underlyingStore.barrier(this.#join("barrier", key), worldSize, options);
  }

  override async clone(): Promise<PrefixStore> {
    const twin = new PrefixStore(this.prefix, await this.underlyingStore.clone());
    twin.#ownsUnderlying = true;
    return twin;
  }

  override async close(): Promise<void> {
    if (this.#ownsUnderlying) await this.underlyingStore.close();
  }

  #join(op: string, key: string): string {
    checkKey(op, key);
    return `${this.prefix}/${key}`;
  }

  #joinAll(op: string, keys: readonly string[]): string[] {
    checkKeys(op, keys);
    return keys.map((key) => `${this.prefix}/${key}`);
  }
}
