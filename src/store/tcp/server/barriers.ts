import { int64Range, type KeyValueTable } from "../../key-value-table.ts";

type Size = number | bigint;

/** The waiters of one barrier, by the number of arrivals that they wait for. The numbers are kept in a min-heap. */
class Barrier {
  readonly #bySize = new Map<Size, Set<() => void>>();
  #sizes: Size[] = [];

  get isEmpty(): boolean {
    return this.#bySize.size === 0;
  }

  add(size: Size, release: () => void): void {
    const releases = this.#bySize.get(size);
    if (releases !== undefined) {
      releases.add(release);
      return;
    }
    this.#bySize.set(size, new Set([release]));
    this.#sizes.push(size);
    this.#siftUp(this.#sizes.length - 1);
  }

  delete(size: Size, release: () => void): void {
    const releases = this.#bySize.get(size);
    if (!releases?.delete(release) || releases.size > 0) return;
    this.#bySize.delete(size);
    // Its number stays in the heap until it reaches the root, or until most of the entries are stale.
    if (this.#sizes.length < 2 * this.#bySize.size + 16) return;
    this.#sizes = [...this.#bySize.keys()].sort((a, b) => (a < b ? -1 : 1));
  }

  /** Removes and returns the waiters for at most `arrived`. */
  take(arrived: Size): (() => void)[] {
    const taken: (() => void)[] = [];
    for (let least = this.#sizes[0]; least !== undefined && least <= arrived; least = this.#sizes[0]) {
      this.#removeLeast();
      // One by one: a call cannot take a million arguments.
      for (const release of this.#bySize.get(least) ?? []) taken.push(release);
      this.#bySize.delete(least);
    }
    return taken;
  }

  #siftUp(from: number): void {
    const sizes = this.#sizes;
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#swapIfLess(sizes, at, parent)) return;
      at = parent;
    }
  }

  #removeLeast(): void {
    const sizes = this.#sizes;
    const last = sizes.pop();
    if (last === undefined || sizes.length === 0) return;
    sizes[0] = last;
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      const right = left + 1;
      const less = right < sizes.length && isLess(sizes, right, left) ? right : left;
      if (less >= sizes.length || !this.#swapIfLess(sizes, less, at)) return;
      at = less;
    }
  }

  #swapIfLess(sizes: Size[], a: number, b: number): boolean {
    const [sizeA, sizeB] = [sizes[a], sizes[b]];
    if (sizeA === undefined || sizeB === undefined || sizeA >= sizeB) return false;
    sizes[a] = sizeB;
    sizes[b] = sizeA;
    return true;
  }
}

/** The waiters at all barriers. Arrivals are counted in the store, under the barrier's key. */
export class Barriers {
  readonly #waiting = new Map<string, Barrier>();
  readonly #table: KeyValueTable;

  constructor(table: KeyValueTable) {
    this.#table = table;
  }

  /**
   * Counts one arrival and calls `release` when there are `worldSize`, possibly at once. Returns a function that
   * cancels the wait, but not the arrival. The cost does not grow with the number of waiters.
   * @throws DistStoreError when the value of the key is not a counter.
   */
  arrive(key: string, worldSize: Size, release: () => void): () => void {
    const arrived = this.#table.add(key, 1, int64Range);
    const barrier = this.#waiting.get(key) ?? new Barrier();
    this.#waiting.set(key, barrier);
    barrier.add(worldSize, release);
    for (const released of barrier.take(arrived)) released();
    this.#forgetIfEmpty(key, barrier);
    return () => {
      barrier.delete(worldSize, release);
      this.#forgetIfEmpty(key, barrier);
    };
  }

  #forgetIfEmpty(key: string, barrier: Barrier): void {
    if (barrier.isEmpty && this.#waiting.get(key) === barrier) this.#waiting.delete(key);
  }
}

function isLess(sizes: readonly Size[], a: number, b: number): boolean {
  const [sizeA, sizeB] = [sizes[a], sizes[b]];
  return sizeA !== undefined && sizeB !== undefined && sizeA < sizeB;
}
