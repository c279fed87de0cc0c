import { DistTimeoutError } from "../errors/index.ts";
import { pause } from "../store/deadline.ts";
import type { StoreCallOptions, TCPStore } from "../store/index.ts";
import type { Membership } from "./world-size.ts";

/** Counts the meetings for which the rank that hosts a server has come to it. */
const hostedKey = "bun-c10d/hosted_meetings";
const firstPauseMs = 10;
const longestPauseMs = 100;

/** How many meetings a rank of this process has left, by the server and the rank. */
const left = new Map<string, number>();

/** Notes that a rank has left a meeting: for its next one the same server is used only once its host has come again. */
export function rememberLeft(store: TCPStore, rank: number): void {
  if (store.serverIdentity === undefined || store.isHost) return;
  const key = `${store.serverIdentity} ${rank}`;
  left.set(key, (left.get(key) ?? 0) + 1);
}

/**
 * Connects to the server that a rank hosts for this meeting. Where that of the meeting before still listens, because its
 * host is slow to leave, tries again until the next one does.
 */
export async function serverOfThisMeeting(
  connect: () => Promise<TCPStore>,
  { rank }: Membership,
  limits: () => StoreCallOptions & { readonly timeout: number },
): Promise<TCPStore> {
  for (let delay = firstPauseMs; ; delay = Math.min(delay * 1.5, longestPauseMs)) {
    const store = await connect();
    try {
      if (store.isHost) await store.add(hostedKey, 1, limits());
      if (store.isHost || !(await isOfMeetingBefore(store, rank, limits()))) return store;
    } catch (error) {
      await store.close();
      throw error;
    }
    await store.close();
    const { timeout, signal } = limits();
    if (timeout <= 1) throw tooLate(store);
    await pause(Math.min(delay, timeout), signal);
  }
}

async function isOfMeetingBefore(store: TCPStore, rank: number, options: StoreCallOptions): Promise<boolean> {
  const meetings = left.get(`${store.serverIdentity} ${rank}`) ?? 0;
  // A server that ends meanwhile is that of the meeting before.
  return meetings > 0 && (await store.add(hostedKey, 0, options).catch(() => 0)) <= meetings;
}

function tooLate({ host, port }: TCPStore): DistTimeoutError {
  return new DistTimeoutError(
    `the store server at ${host}:${port} is still that of the meeting before, which this rank has left. Has rank 0, which hosts it, called destroyProcessGroup() and then initProcessGroup() again?`,
    { code: "CONNECT_TIMEOUT", op: "rendezvous", host, port },
  );
}
