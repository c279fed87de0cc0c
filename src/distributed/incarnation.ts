import { newJobId } from "../status/job-id.ts";
import { PrefixStore } from "../store/index.ts";
import type { Store, StoreCallOptions } from "../store/store.ts";

/** Number of the open meeting, from 0. */
const CURRENT = "bun-c10d/meeting";
/** For each rank, the number of the last meeting that it joined, plus 1. */
const JOINED = "bun-c10d/seat";
const FIRST_ATTEMPT = "bun-c10d/first_attempt";
/** Id of the job, which names the folder of the status records of its ranks on a host. */
const JOB = "bun-c10d/job";
const decoder = new TextDecoder();

/** A rank that joins a meeting. */
export interface Meeting {
  readonly rank: number;
  readonly worldSize: number;
  /** Number of restarts by the launcher. */
  readonly attempt: number;
}

/** One meeting of all ranks in a store that may outlive it, such as a launcher's. */
export interface Incarnation {
  /** Number of the meeting in this store. */
  readonly number: number;
  /** Part of the store for this meeting only. */
  readonly store: Store;
  /** Id that the ranks have agreed on. */
  readonly job: string;
  /** Whether a later meeting has begun: a rank of this one joined again, so this one can no longer take place. */
  isSuperseded(options: StoreCallOptions): Promise<boolean>;
}

/**
 * Determines how often the ranks have met in a store. Keys of earlier meetings, such as addresses of ranks, must not be
 * mistaken for this one's, so all but the first, whose keys are PyTorch's, have their own prefix.
 *
 * There is one open meeting. A rank that has joined it before, successfully or not, begins the next one. Ranks that
 * still wait in the one before follow, by {@link Incarnation.isSuperseded}.
 *
 * @param follows Whether this rank did not fail, but follows others to the next meeting.
 */
export async function joinIncarnation(
  store: Store,
  meeting: Meeting,
  options: StoreCallOptions,
  follows = false,
): Promise<Incarnation> {
  const { rank, attempt } = meeting;
  // Counted per attempt, since some ranks of an earlier attempt may have ended before they got here.
  const scope = attempt === 0 ? "" : `/attempt_${attempt}`;
  const currentKey = `${CURRENT}${scope}`;
  const joinedKey = `${JOINED}${scope}/${rank}`;
  const [current, joined, first, job] = await Promise.all([
    store.add(currentKey, 0, options),
    store.add(joinedKey, 0, options),
    store.compareSet(FIRST_ATTEMPT, "", String(attempt), options),
    store.compareSet(JOB, "", newJobId(), options),
    store.set(bunKey(rank), "1", options),
  ]);
  const number =
    follows || joined <= current
      ? current
      : Number(decoder.decode(await store.compareSet(currentKey, String(current), String(current + 1), options)));
  await store.add(joinedKey, number + 1 - joined, options);
  const kept = Number(decoder.decode(first)) !== attempt;
  const names = number === 0 ? [] : [`incarnation_${number}`];
  if (kept) names.unshift(`attempt_${attempt}`);
  if (names.length > 0 && (await isShared(store, meeting, number, options))) names.length = 0;
  return {
    number,
    job: decoder.decode(job),
    store: names.length === 0 ? store : new PrefixStore(names.join("/"), store),
    isSuperseded: async (limits) => (await store.add(currentKey, 0, limits)) > number,
  };
}

/**
 * Whether PyTorch's ranks, which use no prefix, take part: one of them left its address in an earlier meeting, or in an
 * earlier attempt if the launcher kept the store, as torchrun does. All ranks use what the first one finds.
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
