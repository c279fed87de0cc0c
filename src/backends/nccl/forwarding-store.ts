import { Store, type StoreCallOptions, type StoreValue } from "../../store/store.ts";

/** Another store, with some keys or answers of its own in a class that is derived from this one. */
export class ForwardingStore extends Store {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.#store = store;
  }

  /** The key in the other store. */
  protected named(key: string): string {
    return key;
  }

  override get localAddress(): string | undefined {
    return this.#store.localAddress;
  }

  override set(key: string, value: StoreValue, options?: StoreCallOptions): Promise<void> {
    return this.#store.set(this.named(key), value, options);
  }

  override get(key: string, options?: StoreCallOptions): Promise<Uint8Array> {
    return this.#store.get(this.named(key), options);
  }

  override add(key: string, amount: number, options?: StoreCallOptions): Promise<number> {
    return this.#store.add(this.named(key), amount, options);
  }

  override check(keys: readonly string[], options?: StoreCallOptions): Promise<boolean> {
    return this.#store.check(
      keys.map((key) => this.named(key)),
      options,
    );
  }

  override compareSet(
    key: string,
    expected: StoreValue,
    desired: StoreValue,
    options?: StoreCallOptions,
  ): Promise<Uint8Array> {
    return this.#store.compareSet(this.named(key), expected, desired, options);
  }

  override deleteKey(key: string, options?: StoreCallOptions): Promise<boolean> {
    return this.#store.deleteKey(this.named(key), options);
  }
}
