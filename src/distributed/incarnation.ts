import { PrefixStore } from "../store/index.ts";
import type { Store, StoreCallOptions } from "../store/store.ts";

const JOINED = "bun-c10d/joined";
const FIRST_ATTEMPT = "bun-c10d/first_attempt";
/** Short, since the meeting has failed, perhaps because the store is gone. */
const WITHDRAW_LIMIT_MS = 1_000;
const decoder = new TextDecoder();

/** Who meets. */
export interface Meeting {
  readonly rank: number;
  readonly worldSize: number;
  /** Number of the launcher's restart. */
  readonly attempt: number;
}

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
export async function joinIncarnation(store: Store, meeting: Meeting, options: StoreCallOptions): Promise<Incarnation> {
  const { rank, worldSize, attempt } = meeting;
  // Counted by attempt, since of the ranks of an earlier one some may have ended before they came here.
  const joinedKey = attempt === 0 ? JOINED : `${JOINED}/attempt_${attempt}`;
  const [joined, first] = await Promise.all([
    store.add(joinedKey, 1, options),
    store.compareSet(FIRST_ATTEMPT, "", String(attempt), options),
    store.set(bunKey(rank), "1", options),
  ]);
  const number = Math.floor((joined - 1) / worldSize);
  const names = number <= 0 ? [] : [`incarnation_${number}`];
  const kept = Number(decoder.decode(first)) !== attempt;
  if (kept && !(await isShared(store, meeting, options))) names.unshift(`attempt_${attempt}`);
  return {
    store: names.length === 0 ? store : new PrefixStore(names.join("/"), store),
    withdraw: async () => {
      try {
        await store.add(joinedKey, -1, { timeout: WITHDRAW_LIMIT_MS });
      } catch {
        // A store that fails here has failed before; that error is the one to report.
      }
    },
  };
}

/**
 * Whether PyTorch's ranks take part, which know of no prefix: one of them has left its address in an earlier attempt, in
 * a store that the launcher has kept, as torchrun does. All ranks take what the first one finds.
 */
async function isShared(store: Store, meeting: Meeting, options: StoreCallOptions): Promise<boolean> {
  const found = await Promise.all(
    Array.from({ length: meeting.worldSize }, async (_, rank) => {
      const [isThere, isBun] = await Promise.all([
        store.check([`default_pg/0//cpu//0/${rank}`], options),
        store.check([bunKey(rank)], options),
      ]);
      return isThere && !isBun;
    }),
  );
  const own = found.includes(true) ? "yes" : "no";
  const key = `bun-c10d/shared/attempt_${meeting.attempt}`;
  return decoder.decode(await store.compareSet(key, "", own, options)) === "yes";
}

function bunKey(rank: number): string {
  return `bun-c10d/is_bun/${rank}`;
}
