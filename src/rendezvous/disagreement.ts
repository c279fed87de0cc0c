import type { Store } from "../store/index.ts";
import { pause } from "../time/index.ts";

const firstLookMs = 100;
/** Ranks that wait for others check at least this often whether one of them disagrees. */
export const maxLookMs = 1_000;

/** The meeting cannot take place any more: the ranks have to meet again. */
export class MeetingMissed extends Error {}

/** Where a rank that disagrees with the others reports it. */
export interface Disagreement {
  readonly store: Store;
  /** Set as soon as two ranks disagree. */
  readonly key: string;
  /** The error for the value of the key. */
  readonly errorOf: (report: string) => Error;
  /** Whether the meeting cannot take place any more; called at each check. */
  readonly isMissed?: (() => Promise<boolean>) | undefined;
}

/**
 * Waits for what only ranks that agree can finish, such as connections to all of them, and rejects when one disagrees.
 * It polls the key instead of waiting for it, since most meetings are over before the first check.
 *
 * @throws MeetingMissed, and what {@link Disagreement.errorOf} returns.
 */
export async function unlessDisagreement<T>(connecting: Promise<T>, place: Disagreement): Promise<T> {
  const done = new AbortController();
  const disagreement = look(place, done.signal);
  // The connections may fail after this has ended.
  connecting.catch(() => {});
  try {
    return await Promise.race([connecting, disagreement]);
  } finally {
    done.abort();
  }
}

async function look({ store, key, errorOf, isMissed }: Disagreement, signal: AbortSignal): Promise<never> {
  let missed = false;
  let report: Uint8Array | undefined;
  try {
    for (let delay = firstLookMs; !missed && report === undefined; delay = Math.min(delay * 1.5, maxLookMs)) {
      await pause(delay, signal);
      if (await store.check([key], { signal })) report = await store.get(key, { signal });
      else missed = (await isMissed?.()) === true;
    }
  } catch {
    // If the store fails, so do the connections, with an error that says more.
    return new Promise<never>(() => {});
  }
  throw report === undefined ? new MeetingMissed() : errorOf(new TextDecoder().decode(report));
}
