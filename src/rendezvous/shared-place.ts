import { DistStoreError } from "../errors/index.ts";
import type { Store, StoreCallOptions } from "../store/index.ts";
import { defaultTimeoutMs, timeoutMs } from "../time/index.ts";
import { checkMembership, integerFrom, missingParameter } from "./membership.ts";
import type { Rendezvous, RendezvousOptions } from "./rendezvous-handler.ts";
import { agreeOnWorldSize } from "./world-size.ts";

/** Rank and world size from the arguments or the query of a URL `scheme://…`. */
export function membershipOf(
  scheme: string,
  url: URL,
  options: RendezvousOptions,
): { rank: number; worldSize: number } {
  const missing = (what: string) => () => missingParameter(scheme, what);
  const rank = integerFrom("rank", options.rank, url.searchParams.get("rank"), missing("rank"));
  const given = url.searchParams.get("world_size");
  const worldSize = integerFrom("world_size", options.worldSize, given, missing("world size"));
  checkMembership(rank, worldSize);
  return { rank, worldSize };
}

/** Meets the other ranks in a store that no rank hosts. `where` names it in messages. */
export async function meetIn(
  where: string,
  { rank, worldSize }: { readonly rank: number; readonly worldSize: number },
  options: RendezvousOptions,
  open: (limits: StoreCallOptions) => Promise<Store>,
): Promise<Rendezvous> {
  const limitMs = timeoutMs(options.timeout, defaultTimeoutMs.store);
  const deadline = performance.now() + limitMs;
  const signal = options.signal ? { signal: options.signal } : {};
  const left = () => ({ timeout: Math.max(deadline - performance.now(), 1), ...signal });
  const store = await open({ timeout: limitMs, ...signal });
  try {
    await claimRank(where, store, rank, left());
    await agreeOnWorldSize(store, { rank, worldSize }, left());
  } catch (error) {
    // The first error counts.
    await store.close().catch(() => {});
    throw error;
  }
  return { store, rank, worldSize, close: () => store.close() };
}

/** The keys of a store that outlives its job would make the next job hang without an explanation. */
async function claimRank(where: string, store: Store, rank: number, options: StoreCallOptions): Promise<void> {
  if ((await store.add(`bun-c10d/rank/${rank}`, 1, options)) === 1) return;
  throw new DistStoreError(
    `rank ${rank} has met the others at ${where} before. Either two processes have this rank, or an earlier job left its data there: remove it, or use another place for each job.`,
    { code: "RANK_TAKEN", op: "rendezvous", rank },
  );
}
