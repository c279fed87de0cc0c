import { InvalidArgumentError } from "../errors/index.ts";
import { TCPStore } from "../store/index.ts";
import { environmentSecret } from "../store/tcp/store-secret.ts";
import { defaultTimeoutMs, timeoutMs } from "../time/index.ts";
import { maxLookMs } from "./dispute.ts";
import { isOver, noteConnected, noteFailed, serverOfThisMeeting } from "./meetings.ts";
import { checkMembership } from "./membership.ts";
import type { Rendezvous, RendezvousCloseOptions, RendezvousOptions } from "./rendezvous-handler.ts";
import { agreeOnWorldSize, type Membership, watchForMismatch } from "./world-size.ts";

/** Where and as whom a rank meets the others. */
export interface MeetingPlace extends Membership {
  readonly host: string;
  readonly port: number;
  /** Whether the launcher hosts the store, so that rank 0 must not. */
  readonly hostedByLauncher: boolean;
}

/** How long the rank that hosts the store waits for those who disagree with it to leave: they look at least this often. */
const timeToReadMs = 2 * maxLookMs;

/** How long the notes for the next meeting may take. */
const noteLimitMs = 1_000;

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
    await agreeOnWorldSize(store, place, left());
    await join(store, place, left());
  } catch (error) {
    // The others, who may have come to the store of this rank, shall be able to read what they disagree on.
    const disagree = error instanceof InvalidArgumentError && error.code === "WORLD_SIZE_MISMATCH";
    await store.close(disagree ? { drainTimeout: Math.min(timeToReadMs, left().timeout) } : {});
    throw error;
  }
  const attempt = place.attempt === undefined ? {} : { attempt: place.attempt };
  if (place.hostedByLauncher) return { store, rank, worldSize, ...attempt, close: (closing) => store.close(closing) };
  const limits = { timeout: Math.min(timeout, noteLimitMs) };
  let noting: Promise<void> | undefined;
  return {
    store,
    rank,
    worldSize,
    ...attempt,
    connected: (meeting) => {
      // A store that fails here fails what needs it, which tells more.
      noting = noteConnected(store, rank, meeting, limits).catch(() => {});
      return noting;
    },
    isOver: (meeting) => isOver(store, meeting, limits),
    close: async (closing: RendezvousCloseOptions = {}) => {
      if (closing.failed) noteFailed(store, rank);
      await noting;
      await store.close(closing);
    },
  };
}

/** Joins, and where all are waited for, stops waiting when one of them turns out to disagree. */
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
  } finally {
    done.abort();
  }
}
