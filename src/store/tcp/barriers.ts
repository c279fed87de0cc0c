import { int64Range, type KeyValueTable } from "../key-value-table.ts";

interface Arrival {
  readonly worldSize: number | bigint;
  readonly release: () => void;
}

/** Those who stand at a barrier; who has arrived is counted in the store, under the barrier's key. */
export class Barriers {
  readonly #waiting = new Map<string, Set<Arrival>>();
  readonly #table: KeyValueTable;

  constructor(table: KeyValueTable) {
    this.#table = table;
  }

  /**
   * Counts one arrival and calls `release` when there are `worldSize`, perhaps at once; returns the cancellation, which
   * does not take the arrival back.
   * @throws DistStoreError when the value of the key is no counter.
   */
  arrive(key: string, worldSize: number | bigint, release: () => void): () => void {
    const arrived = this.#table.add(key, 1, int64Range);
    const waiting = this.#waiting.get(key) ?? new Set();
    const own: Arrival = { worldSize, release };
    waiting.add(own);
    this.#waiting.set(key, waiting);
    for (const arrival of waiting) {
      if (arrived < arrival.worldSize) continue;
      waiting.delete(arrival);
      arrival.release();
    }
    if (waiting.size === 0) this.#waiting.delete(key);
    return () => {
      if (waiting.delete(own) && waiting.size === 0) this.#waiting.delete(key);
    };
  }
}
