import { defaultTimeoutMs, timeoutMs } from "../errors/index.ts";
import { TCPStore } from "../store/index.ts";
import { environmentSecret } from "../store/tcp/store-secret.ts";
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

/** Meets the other ranks in a TCPStore at a known place. */
export async function meet(place: MeetingPlace, options: RendezvousOptions): Promise<Rendezvous> {
  const { host, port, rank, worldSize } = place;
  checkMembership(rank, worldSize);
  const timeout = timeoutMs(options.timeout, defaultTimeoutMs.store);
  const deadline = performance.now() + timeout;
  const signal = options.signal ? { signal: options.signal } : {};
  const store = await TCPStore.connect({
    host,
    port,
    isMaster: rank === 0 && !place.hostedByLauncher,
    multiTenant: true,
    timeout,
    secret: environmentSecret(options.env),
    ...signal,
  });
  const left = () => ({ timeout: Math.max(deadline - performance.now(), 1), ...signal });
  try {
    await agreeOnWorldSize(store, place, left());
    await join(store, place, left());
  } catch (error) {
    await store.close();
    throw error;
  }
  return { store, rank, worldSize, close: (close?: RendezvousCloseOptions) => store.close(close) };
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
