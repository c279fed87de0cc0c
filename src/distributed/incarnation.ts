import { PrefixStore } from "../store/index.ts";
import type { Store, StoreCallOptions } from "../store/store.ts";

const JOINED = "bun-c10d/joined";

/** One meeting of all ranks in a store that may outlive it, as a launcher's does. */
export interface Incarnation {
  /** Part of the store for this meeting alone. */
  readonly store: Store;
  /** To be called when the meeting has failed, so that the next attempt counts right. Never rejects. */
  withdraw(): Promise<void>;
}

/**
 * Finds out the how-manieth time the ranks meet in a store. What earlier meetings have left there, such as addresses of
 * ranks, must not be taken for this one's, so all but the first, whose keys are PyTorch's, have a prefix of their own.
 */
export async function joinIncarnation(
  store: Store,
  worldSize: number,
  options: StoreCallOptions,
): Promise<Incarnation> {
  const joined = await store.add(JOINED, 1, options);
  const number = Math.floor((joined - 1) / worldSize);
  return {
    store: number <= 0 ? store : new PrefixStore(`incarnation_${number}`, store),
    withdraw: async () => {
      await store.add(JOINED, -1, options).catch(() => {});
    },
  };
}
