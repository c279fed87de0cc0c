import { addToError, type DistTimeoutError, ranksText } from "../errors/index.ts";
import type { Store, StoreCallOptions } from "../store/index.ts";
import type { Membership } from "./world-size.ts";

/** How long to look for the ranks that have arrived, once it is too late. */
const LOOK_LIMITS = { timeout: 1_000 };

/** Writes down that a rank has come to the rendezvous. */
export function recordArrived(store: Store, place: Membership, options: StoreCallOptions): Promise<void> {
  return store.set(keyOf(place.rank, place), "", options);
}

/**
 * Adds the ranks to an error that have not come to the rendezvous in time; none if the others are unknown, as with ranks
 * of PyTorch, which write nothing down.
 */
export async function nameMissing(store: Store, place: Membership, error: DistTimeoutError): Promise<void> {
  const ranks = Array.from({ length: place.worldSize }, (_, rank) => rank);
  const isThere = async (rank: number) => store.check([keyOf(rank, place)], LOOK_LIMITS);
  const found = await Promise.all(ranks.map(isThere)).catch(() => []);
  const missing = ranks.filter((rank) => found[rank] === false);
  const { arrived = 0 } = error.details;
  if (missing.length === 0 || ranks.length - missing.length < arrived) return;
  addToError(error, `missing: ${ranksText(missing)}`, { peers: missing });
}

function keyOf(rank: number, { attempt }: Membership): string {
  return `bun-c10d/arrived/${attempt || "0"}/${rank}`;
}
