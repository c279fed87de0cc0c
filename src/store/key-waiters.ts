interface Waiter {
  readonly keys: readonly string[];
  readonly wake: () => void;
  /** Index of the key that it is registered under; -1 once it has ended. */
  at: number;
}

/**
 * The waiters for keys. A waiter is woken once, at a moment when all of its keys are present.
 *
 * It is registered under one missing key at a time, so that a waiter for many keys costs little more than their list,
 * and each key that is set costs one check of the next.
 */
export class KeyWaiters {
  readonly #byKey = new Map<string, Set<Waiter>>();
  readonly #isPresent: (key: string) => boolean;

  constructor(isPresent: (key: string) => boolean) {
    this.#isPresent = isPresent;
  }

  /** Calls `wake` when all keys are present, at once if they already are; returns a function that cancels. */
  add(keys: readonly string[], wake: () => void): () => void {
    const waiter: Waiter = { keys, wake, at: 0 };
    this.#advance(waiter, keys.length);
    return () => {
      if (waiter.at < 0) return;
      this.#forget(keys[waiter.at] ?? "", waiter);
      waiter.at = -1;
    };
  }

  /** To be called whenever a key may have become present. */
  notify(key: string): void {
    if (this.#byKey.size === 0) return;
    const waiters = this.#byKey.get(key);
    if (waiters === undefined) return;
    this.#byKey.delete(key);
    for (const waiter of waiters) this.#advance(waiter, waiter.keys.length);
  }

  /** Those of `keys` that are not present now. */
  missing(keys: readonly string[]): string[] {
    return keys.filter((key) => !this.#isPresent(key));
  }

  /** Registers the waiter under the next missing key, searching in a circle; wakes it if there is none. */
  #advance(waiter: Waiter, count: number): void {
    const { keys } = waiter;
    // A key seen earlier may have been deleted since: it takes a whole round to know that all are present.
    for (let seen = 0, at = waiter.at; seen < count; seen++, at = at + 1 === count ? 0 : at + 1) {
      const key = keys[at] ?? "";
      if (this.#isPresent(key)) continue;
      waiter.at = at;
      const waiters = this.#byKey.get(key);
      if (waiters) waiters.add(waiter);
      else this.#byKey.set(key, new Set([waiter]));
      return;
    }
    waiter.at = -1;
    waiter.wake();
  }

  #forget(key: string, waiter: Waiter): void {
    const waiters = this.#byKey.get(key);
    if (waiters?.delete(waiter) && waiters.size === 0) this.#byKey.delete(key);
  }
}
