import { InvalidArgumentError } from "../errors/index.ts";
import type { Store, StoreCallOptions } from "../store/index.ts";
import { unlessDisagreement } from "./disagreement.ts";

const baseKey = "bun-c10d/world_size";

/** A rank in an attempt of a job. */
export interface Membership {
  readonly rank: number;
  readonly worldSize: number;
  /** Number of the restart; a launcher may keep the store across restarts with another world size. */
  readonly attempt?: string;
}

/**
 * Checks that all ranks were started with the same world size; the first rank sets it.
 * @throws InvalidArgumentError naming both numbers and a rank with each.
 */
export async function agreeOnWorldSize(
  store: Store,
  { rank, worldSize, attempt }: Membership,
  options: StoreCallOptions = {},
): Promise<void> {
  const key = attemptKey(attempt);
  const own = String(worldSize);
  // Written first, so that a rank which finds another number also finds which rank has it.
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
  membership: Membership,
  options: StoreCallOptions,
): Promise<never> {
  const report = await store.get(`${attemptKey(membership.attempt)}/mismatch`, options);
  throw mismatchWith(membership, new TextDecoder().decode(report));
}

/**
 * Waits for the connections of ranks that agree, and rejects when one disagrees on the world size.
 *
 * @param isMissed Whether the meeting cannot take place any more.
 * @throws MeetingMissed, and as {@link watchForMismatch}.
 */
export function whileAgreed<T>(
  store: Store,
  membership: Membership,
  connecting: Promise<T>,
  isMissed?: () => Promise<boolean>,
): Promise<T> {
  const key = `${attemptKey(membership.attempt)}/mismatch`;
  return unlessDisagreement(connecting, {
    store,
    key,
    errorOf: (report) => mismatchWith(membership, report),
    isMissed,
  });
}

function attemptKey(attempt: string | undefined): string {
  return attempt === undefined || attempt === "" || attempt === "0" ? baseKey : `${baseKey}/attempt_${attempt}`;
}

/** @param report What a rank that disagrees wrote: its rank and its world size. */
function mismatchWith({ rank, worldSize }: Membership, report: string): InvalidArgumentError {
  const [otherRank = "", other = ""] = report.split("/");
  return mismatch(rank, String(worldSize), Number(otherRank), other);
}

function mismatch(rankA: number, sizeA: string, rankB: number, sizeB: string): InvalidArgumentError {
  // The same message on all ranks, whichever was first.
  const had = [`rank ${rankA} has ${sizeA}`, `rank ${rankB} has ${sizeB}`];
  if (rankA > rankB) had.reverse();
  return new InvalidArgumentError(
    `the ranks of this job do not agree on the world size: ${had.join(", ")}. Start all ranks with the same WORLD_SIZE.`,
    { code: "WORLD_SIZE_MISMATCH", argument: "worldSize", rank: rankB, peers: [rankA] },
  );
}
