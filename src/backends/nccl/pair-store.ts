import { Store, type StoreCallOptions, type StoreValue } from "../../store/store.ts";

/**
 * The store of a group as the communicator of two of its ranks sees it: the key of its unique id is that of PyTorch, all
 * others are apart from those of the group.
 */
export class PairStore extends Store {
  readonly #store: Store;
  readonly #idKey: string;

  constructor(store: Store, idKey: string) {
    super();
    this.#store = store;
    this.#idKey = idKey;
  }

  #named(key: string): string {
    return key === this.#idKey ? key : `messages/${this.#idKey}/${key}`;
  }

  override get localAddress(): string | undefined {
    return this.#store.localAddress;
  }

  override set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.#store.set(this.#named(key), value, options);
  }

  override get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.#store.get(this.#named(key), options);
  }

  override add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    return this.#store.add(this.#named(key), amount, options);
  }

  override check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return this.#store.check(
      keys.map((key) => this.#named(key)),
      options,
    );
  }

  override compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    return this.#store.compareSet(this.#named(key), expected, desired, options);
  }

  override deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.#store.deleteKey(this.#named(key), options);
  }
}
