import { InvalidArgumentError } from "../errors/index.ts";
import { pause } from "../store/deadline.ts";
import type { Store, StoreCallOptions } from "../store/index.ts";

const baseKey = "bun-c10d/world_size";

/** Who takes part in an attempt of a job. */
export interface Membership {
  readonly rank: number;
  readonly worldSize: number;
  /** Number of the restart; a launcher may keep the store over restarts of another size. */
  readonly attempt?: string;
}

/**
 * Checks that all ranks were started with the same world size; the first one to come sets it.
 * @throws InvalidArgumentError naming both numbers and a rank with each.
 */
export async function agreeOnWorldSize(
  store: Store,
  { rank, worldSize, attempt }: Membership,
  options: StoreCallOptions = {},
): Promise<void> {
  const key = attemptKey(attempt);
  const own = String(worldSize);
  // Written first, so that a rank which finds another number also finds who has it.
  await store.set(`${key}/${own}`, String(rank), options);
  const agreed = await store.compareSet(key, "", own, options);
  const other = new TextDecoder().decode(agreed);
  if (other === own) return;
  await store.set(`${key}/mismatch`, `${rank}/${own}`, options);
  const otherRank = new TextDecoder().decode(await store.get(`${key}/${other}`, options));
  throw mismatch(Number(otherRank), other, rank, own);
}

/** Rejects when a rank has found that it disagrees on the world size; runs until then or until the signal. */
export async function watchForMismatch(
  store: Store,
  { rank, worldSize, attempt }: Membership,
  options: StoreCallOptions,
): Promise<never> {
  const report = await store.get(`${attemptKey(attempt)}/mismatch`, options);
  const [otherRank = "", other = ""] = new TextDecoder().decode(report).split("/");
  throw mismatch(rank, String(worldSize), Number(otherRank), other);
}

const firstLookMs = 100;
/** Ranks that wait for others look this often at least whether one of them disagrees. */
export const maxLookMs = 1_000;

/** The meeting cannot take place any more: the ranks meet anew. */
export class MeetingMissed extends Error {}

/**
 * Waits for what only ranks that agree can finish, such as connections to all of them, and gives up when one turns out to
 * disagree. It looks now and then instead of waiting for the key, since most meetings are over before the first look.
 *
 * @param isMissed Whether the meeting cannot take place any more; asked at each look.
 * @throws MeetingMissed, and as {@link watchForMismatch}.
 */
export async function whileAgreed<T>(
  store: Store,
  membership: Membership,
  connecting: Promise<T>,
  isMissed?: () => Promise<boolean>,
): Promise<T> {
  const done = new AbortController();
  const disagreement = lookForMismatch(store, membership, done.signal, isMissed);
  // The connections, which tell what else is wrong, may fail later than this.
  connecting.catch(() => {});
  try {
    return await Promise.race([connecting, disagreement]);
  } finally {
    done.abort();
  }
}

async function lookForMismatch(
  store: Store,
  membership: Membership,
  signal: AbortSignal,
  isMissed?: () => Promise<boolean>,
): Promise<never> {
  const key = `${attemptKey(membership.attempt)}/mismatch`;
  let missed = false;
  try {
    for (let delay = firstLookMs; !missed; delay = Math.min(delay * 1.5, maxLookMs)) {
      await pause(delay, signal);
      if (await store.check([key], { signal })) break;
      missed = (await isMissed?.()) === true;
    }
  } catch {
    // A store that fails makes the connections fail, which tells more.
    return new Promise<never>(() => {});
  }
  if (missed) throw new MeetingMissed();
  return watchForMismatch(store, membership, { signal });
}

function attemptKey(attempt: string | undefined): string {
  return attempt === undefined || attempt === "" || attempt === "0" ? baseKey : `${baseKey}/attempt_${attempt}`;
}

function mismatch(rankA: number, sizeA: string, rankB: number, sizeB: string): InvalidArgumentError {
  // The same words on all ranks, whoever was first.
  const had = [`rank ${rankA} has ${sizeA}`, `rank ${rankB} has ${sizeB}`];
  if (rankA > rankB) had.reverse();
  return new InvalidArgumentError(
    `the ranks of this job do not agree on the world size: ${had.join(", ")}. Start all ranks with the same WORLD_SIZE.`,
    { code: "WORLD_SIZE_MISMATCH", argument: "worldSize", rank: rankB, peers: [rankA] },
  );
}
