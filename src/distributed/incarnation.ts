import { PrefixStore } from "../store/index.ts";
import type { Store, StoreCallOptions } from "../store/store.ts";

/** Number of the meeting that is open, from 0. */
const CURRENT = "bun-c10d/meeting";
/** Of each rank, how many meetings there were with the last one that it has come to. */
const SEAT = "bun-c10d/seat";
const FIRST_ATTEMPT = "bun-c10d/first_attempt";
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
  /** Number of the meeting in this store. */
  readonly number: number;
  /** Part of the store for this meeting alone. */
  readonly store: Store;
  /** Whether a later one has begun: a rank of this one has come again, so this one cannot take place any more. */
  isSuperseded(options: StoreCallOptions): Promise<boolean>;
}

/**
 * Finds out the how-manieth time the ranks meet in a store. What earlier meetings have left there, such as addresses of
 * ranks, must not be taken for this one's, so all but the first, whose keys are PyTorch's, have a prefix of their own.
 *
 * There is one open meeting. A rank that has come to it before, and whether that went well on this rank or on the others
 * nobody knows, begins the next one; those who still wait in the one before follow, by {@link Incarnation.isSuperseded}.
 *
 * @param follows Whether this rank has not failed, but follows others to the next meeting.
 */
export async function joinIncarnation(
  store: Store,
  meeting: Meeting,
  options: StoreCallOptions,
  follows = false,
): Promise<Incarnation> {
  const { rank, attempt } = meeting;
  // Counted by attempt, since of the ranks of an earlier one some may have ended before they came here.
  const scope = attempt === 0 ? "" : `/attempt_${attempt}`;
  const currentKey = `${CURRENT}${scope}`;
  const seatKey = `${SEAT}${scope}/${rank}`;
  const [current, seat, first] = await Promise.all([
    store.add(currentKey, 0, options),
    store.add(seatKey, 0, options),
    store.compareSet(FIRST_ATTEMPT, "", String(attempt), options),
    store.set(bunKey(rank), "1", options),
  ]);
  const number =
    follows || seat <= current
      ? current
      : Number(decoder.decode(await store.compareSet(currentKey, String(current), String(current + 1), options)));
  await store.add(seatKey, number + 1 - seat, options);
  const kept = Number(decoder.decode(first)) !== attempt;
  const names = number === 0 ? [] : [`incarnation_${number}`];
  if (kept) names.unshift(`attempt_${attempt}`);
  if (names.length > 0 && (await isShared(store, meeting, number, options))) names.length = 0;
  return {
    number,
    store: names.length === 0 ? store : new PrefixStore(names.join("/"), store),
    isSuperseded: async (limits) => (await store.add(currentKey, 0, limits)) > number,
  };
}

/**
 * Whether PyTorch's ranks take part, which know of no prefix: one of them has left its address in an earlier meeting, or in
 * an earlier attempt, in a store that the launcher has kept, as torchrun does. All ranks take what the first one finds.
 */
async function isShared(store: Store, meeting: Meeting, number: number, options: StoreCallOptions): Promise<boolean> {
  const key = `bun-c10d/shared/attempt_${meeting.attempt}${number === 0 ? "" : `/${number}`}`;
  if (await store.check([key], options)) return decoder.decode(await store.get(key, options)) === "yes";
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
  return decoder.decode(await store.compareSet(key, "", own, options)) === "yes";
}

function bunKey(rank: number): string {
  return `bun-c10d/is_bun/${rank}`;
}
