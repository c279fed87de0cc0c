import { DistTimeoutError, InvalidArgumentError } from "../errors/index.ts";
import { TCPStore } from "../store/index.ts";
import { environmentSecret } from "../store/tcp/store-secret.ts";
import { defaultTimeoutMs, timeoutMs } from "../time/index.ts";
import { nameMissing, recordArrived } from "./arrivals.ts";
import { maxLookMs } from "./disagreement.ts";
import { isOver, recordConnected, recordFailed, serverOfThisMeeting } from "./meetings.ts";
import { checkMembership } from "./membership.ts";
import type { Rendezvous, RendezvousCloseOptions, RendezvousOptions } from "./rendezvous-handler.ts";
import { agreeOnWorldSize, type Membership, watchForMismatch } from "./world-size.ts";

/** Where a rank meets the others, and as which rank. */
export interface MeetingPlace extends Membership {
  readonly host: string;
  readonly port: number;
  /** Whether the launcher hosts the store, so that rank 0 must not. */
  readonly hostedByLauncher: boolean;
}

/** How long the host of the store waits for ranks that disagree with it to disconnect: they check more often. */
const timeToReadMs = 2 * maxLookMs;

/** How long a record for the next meeting may take. */
const recordLimitMs = 1_000;

/** Meets the other ranks in a TCPStore at a known place. */
export async function meet(place: MeetingPlace, options: RendezvousOptions): Promise<Rendezvous> {
  const { host, port, rank, worldSize } = place;
  checkMembership(rank, worldSize);
  const timeout = timeoutMs(options.timeout, defaultTimeoutMs.store);
  const deadline = performance.now() + timeout;
  const signal = options.signal ? { signal: options.signal } : {};
  const left = () => ({ timeout: Math.max(deadline - performance.now(), 1), ...signal });
  const connect = () =>
    TCPStore.connect({
      host,
      port,
      isMaster: rank === 0 && !place.hostedByLauncher,
      multiTenant: true,
      secret: environmentSecret(options.env),
      ...left(),
    });
  const store = place.hostedByLauncher ? await connect() : await serverOfThisMeeting(connect, place, left);
  store.setTimeout(timeout);
  try {
    await Promise.all([agreeOnWorldSize(store, place, left()), recordArrived(store, place, left())]);
    await join(store, place, left());
  } catch (error) {
    // The others, which may be connected to the store of this rank, must be able to read what they disagree on.
    const disagree = error instanceof InvalidArgumentError && error.code === "WORLD_SIZE_MISMATCH";
    await store.close(disagree ? { drainTimeout: Math.min(timeToReadMs, left().timeout) } : {});
    throw error;
  }
  const attempt = place.attempt === undefined ? {} : { attempt: place.attempt };
  if (place.hostedByLauncher) return { store, rank, worldSize, ...attempt, close: (closing) => store.close(closing) };
  const limits = { timeout: Math.min(timeout, recordLimitMs) };
  let recording: Promise<void> | undefined;
  return {
    store,
    rank,
    worldSize,
    ...attempt,
    connected: (meeting) => {
      // If the store fails here, what needs it fails too, with an error that says more.
      recording = recordConnected(store, rank, meeting, limits).catch(() => {});
      return recording;
    },
    isOver: (meeting) => isOver(store, meeting, limits),
    close: async (closing: RendezvousCloseOptions = {}) => {
      if (closing.failed) recordFailed(store, rank);
      await recording;
      await store.close(closing);
    },
  };
}

/** Joins; if it waits for all ranks, it stops waiting when one of them disagrees. */
async function join(
  store: TCPStore,
  place: MeetingPlace,
  options: { timeout: number; signal?: AbortSignal },
): Promise<void> {
  if (!store.isHost || place.worldSize === 1) return store.waitForWorkers(place.worldSize, options);
  const done = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, done.signal]) : done.signal;
  const disagreement = watchForMismatch(store, place, { timeout: Number.POSITIVE_INFINITY, signal });
  // It ends by the abort below.
  disagreement.catch(() => {});
  try {
    await Promise.race([store.waitForWorkers(place.worldSize, { ...options, signal }), disagreement]);
  } catch (error) {
    if (error instanceof DistTimeoutError) await nameMissing(store, place, error);
    throw error;
  } finally {
    done.abort();
  }
}
