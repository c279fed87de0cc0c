import { DistTimeoutError } from "../errors/index.ts";
import type { StoreCallOptions, TCPStore } from "../store/index.ts";
import { pause } from "../time/index.ts";
import type { Membership } from "./world-size.ts";

/** The key of the state of the rank that hosts a server, see {@link HostState}. */
const stateKey = "bun-c10d/host";
const firstPauseMs = 10;
const longestPauseMs = 100;
const decoder = new TextDecoder();

/** As `arrivals` or `arrivals connected`. */
interface HostState {
  /** How often the host has joined this server. */
  readonly arrivals: number;
  /** Number of the meeting in which it has connected since it last joined; undefined while it meets the others. */
  readonly connected: number | undefined;
}

/** For each rank of this process, the last server where it met the others, and how often the host had joined it. */
const last = new Map<number, { readonly server: string; readonly arrivals: number }>();

async function stateOf(store: TCPStore, options: StoreCallOptions): Promise<HostState> {
  const text = decoder.decode(await store.compareSet(stateKey, "", "", options));
  const [arrivals = 0, connected] = text.split(" ").map(Number);
  return { arrivals, connected };
}

/** Records that a rank has connected to the others. Its next meeting uses this server only after the host rejoins. */
export async function recordConnected(
  store: TCPStore,
  rank: number,
  meeting: number,
  options: StoreCallOptions,
): Promise<void> {
  const { arrivals } = await stateOf(store, options);
  if (store.isHost) await store.set(stateKey, `${arrivals} ${meeting}`, options);
  else if (store.serverIdentity !== undefined) last.set(rank, { server: store.serverIdentity, arrivals });
}

/** Records that a rank has not connected: the others may still wait for it at this server. */
export function recordFailed(store: TCPStore, rank: number): void {
  if (store.serverIdentity !== undefined && !store.isHost)
    last.set(rank, { server: store.serverIdentity, arrivals: 0 });
}

/** Whether the host has connected to the others without this rank, which was too late and waits for it here. */
export async function isOver(store: TCPStore, meeting: number, options: StoreCallOptions): Promise<boolean> {
  if (store.isHost) return false;
  const { connected } = await stateOf(store, options);
  return connected !== undefined && connected < meeting;
}

/**
 * Connects to the server that a rank hosts for this meeting. If that of the previous meeting still listens, because its
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
      if (store.isHost) {
        const { arrivals } = await stateOf(store, limits());
        await store.set(stateKey, String(arrivals + 1), limits());
      }
      if (store.isHost || !(await isOfPreviousMeeting(store, rank, limits()))) return store;
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

async function isOfPreviousMeeting(store: TCPStore, rank: number, options: StoreCallOptions): Promise<boolean> {
  const before = last.get(rank);
  try {
    const { arrivals, connected } = await stateOf(store, options);
    if (connected !== undefined) return true;
    return before?.server === store.serverIdentity && before?.arrivals === arrivals;
  } catch (error) {
    // A server that ends meanwhile is that of the previous meeting.
    if (before === undefined) throw error;
    return true;
  }
}

function tooLate({ host, port }: TCPStore): DistTimeoutError {
  return new DistTimeoutError(
    `the store server at ${host}:${port} is still that of the previous meeting, which this rank has left. Has rank 0, which hosts it, called destroyProcessGroup() and then initProcessGroup() again?`,
    { code: "CONNECT_TIMEOUT", op: "rendezvous", host, port },
  );
}
