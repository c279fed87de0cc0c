interface Waiter {
  readonly keys: readonly string[];
  readonly missing: Set<string>;
  readonly wake: () => void;
}

/** Who waits for which keys. A waiter is woken once, at a moment when all of its keys are there. */
export class KeyWaiters {
  readonly #byKey = new Map<string, Set<Waiter>>();
  readonly #isPresent: (key: string) => boolean;

  constructor(isPresent: (key: string) => boolean) {
    this.#isPresent = isPresent;
  }

  /** Calls `wake` when all keys are there, at once if they are now; returns the cancellation. */
  add(keys: readonly string[], wake: () => void): () => void {
    const waiter: Waiter = { keys, missing: new Set(), wake };
    if (!this.#register(waiter)) {
      wake();
      return () => {};
    }
    return () => {
      for (const key of waiter.missing) this.#forget(key, waiter);
      waiter.missing.clear();
    };
  }

  /** To be called whenever a key may have become present. */
  notify(key: string): void {
    if (this.#byKey.size === 0) return;
    const waiters = this.#byKey.get(key);
    if (waiters === undefined) return;
    this.#byKey.delete(key);
    for (const waiter of waiters) {
      waiter.missing.delete(key);
      // A key seen earlier may have been deleted since: look at all of them again before waking.
      if (waiter.missing.size === 0 && !this.#register(waiter)) waiter.wake();
    }
  }

  /** Those of `keys` that are not there now. */
  missing(keys: readonly string[]): string[] {
    return keys.filter((key) => !this.#isPresent(key));
  }

  #register(waiter: Waiter): boolean {
    for (const key of waiter.keys) {
      if (this.#isPresent(key)) continue;
      waiter.missing.add(key);
      const waiters = this.#byKey.get(key);
      if (waiters) waiters.add(waiter);
      else this.#byKey.set(key, new Set([waiter]));
    }
    return waiter.missing.size > 0;
  }

  #forget(key: string, waiter: Waiter): void {
    const waiters = this.#byKey.get(key);
    if (waiters?.delete(waiter) && waiters.size === 0) this.#byKey.delete(key);
  }
}
