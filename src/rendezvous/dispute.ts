import type { Store } from "../store/index.ts";
import { pause } from "../time/index.ts";

const firstLookMs = 100;
/** Ranks that wait for others look this often at least whether one of them disagrees. */
export const maxLookMs = 1_000;

/** The meeting cannot take place any more: the ranks meet anew. */
export class MeetingMissed extends Error {}

/** Where a rank that disagrees with the others says so. */
export interface Dispute {
  readonly store: Store;
  /** Set as soon as two ranks disagree. */
  readonly key: string;
  /** The error that the value of the key stands for. */
  readonly errorOf: (report: string) => Error;
  /** Whether the meeting cannot take place any more; asked at each look. */
  readonly isMissed?: (() => Promise<boolean>) | undefined;
}

/**
 * Waits for what only ranks that agree can finish, such as connections to all of them, and gives up when one turns out to
 * disagree. It looks now and then instead of waiting for the key, since most meetings are over before the first look.
 *
 * @throws MeetingMissed, and what {@link Dispute.errorOf} gives.
 */
export async function unlessDisputed<T>(connecting: Promise<T>, dispute: Dispute): Promise<T> {
  const done = new AbortController();
  const disagreement = look(dispute, done.signal);
  // The connections, which tell what else is wrong, may fail later than this.
  connecting.catch(() => {});
  try {
    return await Promise.race([connecting, disagreement]);
  } finally {
    done.abort();
  }
}

async function look({ store, key, errorOf, isMissed }: Dispute, signal: AbortSignal): Promise<never> {
  let missed = false;
  let report: Uint8Array | undefined;
  try {
    for (let delay = firstLookMs; !missed && report === undefined; delay = Math.min(delay * 1.5, maxLookMs)) {
      await pause(delay, signal);
      if (await store.check([key], { signal })) report = await store.get(key, { signal });
      else missed = (await isMissed?.()) === true;
    }
  } catch {
    // A store that fails makes the connections fail, which tells more.
    return new Promise<never>(() => {});
  }
  throw report === undefined ? new MeetingMissed() : errorOf(new TextDecoder().decode(report));
}
