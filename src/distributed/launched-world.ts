import { networkInterfaces } from "node:os";
import { InvalidArgumentError } from "../errors/index.ts";
import type { BackendPlugin, LaunchedWorld } from "../registry/index.ts";
import type { Rendezvous } from "../rendezvous/index.ts";
import { HashStore, TCPStore } from "../store/index.ts";
import type { Store } from "../store/store.ts";
import { mintSecret } from "../store/tcp/store-secret.ts";

/** What of the options of `initProcessGroup` says where the ranks meet. */
interface MeetingOptions {
  readonly init?: string;
  readonly initMethod?: string;
  readonly store?: Store;
  readonly rank?: number;
  readonly worldSize?: number;
}

/** Where rank 0 hosts the store of a job. */
interface StorePlace {
  readonly hosts: readonly string[];
  readonly port: number;
  readonly secret: string;
}

/** More addresses than these do not fit into what a backend can share. */
const MAX_HOSTS = 8;
/** How long meeting in a shared store may take; the library has brought the ranks together before. */
const STORE_LIMIT_MS = 60_000;

/** The world of the first of these backends that is started by a launcher of its own; undefined if none is. */
export async function launchedWorld(
  plugins: Iterable<BackendPlugin>,
  options: ReadonlyMap<BackendPlugin, object>,
  timeoutMs: number,
): Promise<LaunchedWorld | undefined> {
  for (const plugin of plugins) {
    if (plugin.launched !== undefined) return plugin.launched({ timeoutMs, options: options.get(plugin) ?? {} });
  }
  return undefined;
}

/**
 * Finds a store for a world whose rank and size are known: the caller's, that of MASTER_ADDR and MASTER_PORT, else one
 * that rank 0 hosts and tells the others about by way of the backend.
 */
export async function meetLaunched<Options extends MeetingOptions>(
  world: LaunchedWorld,
  options: Options,
  meet: (options: Options) => Promise<Rendezvous>,
): Promise<Rendezvous> {
  const { rank, worldSize } = world;
  agree("rank", options.rank, rank);
  agree("worldSize", options.worldSize, worldSize);
  const isGiven = options.store !== undefined || options.init !== undefined || options.initMethod !== undefined;
  const { MASTER_ADDR, MASTER_PORT } = process.env;
  const { share } = world;
  if (isGiven || (share !== undefined && MASTER_ADDR && MASTER_PORT)) return meet({ ...options, rank, worldSize });
  if (share === undefined || worldSize === 1) return { store: new HashStore(), rank, worldSize };
  const store = await shareStore(world, (value) => share.call(world, value));
  return { store, rank, worldSize, close: (close) => store.close(close) };
}

function agree(argument: "rank" | "worldSize", given: number | undefined, actual: number): void {
  if (given === undefined || given === actual) return;
  throw new InvalidArgumentError(
    `initProcessGroup: ${argument} is ${given}, but the launcher of this job says ${actual}; leave it out`,
    { argument },
  );
}

async function shareStore(
  { rank, oneHost }: LaunchedWorld,
  share: (value: Uint8Array) => Promise<Uint8Array>,
): Promise<TCPStore> {
  if (rank !== 0) {
    const place = JSON.parse(new TextDecoder().decode(await share(new Uint8Array()))) as StorePlace;
    return connectToAny(place);
  }
  const secret = mintSecret();
  const store = await TCPStore.connect({
    host: oneHost ? "127.0.0.1" : "0.0.0.0",
    port: 0,
    isMaster: true,
    waitForWorkers: false,
    timeout: STORE_LIMIT_MS,
    secret,
  });
  const place: StorePlace = { hosts: oneHost ? ["127.0.0.1"] : ownAddresses(), port: store.port, secret };
  await share(new TextEncoder().encode(JSON.stringify(place)));
  return store;
}

/** Connects by whichever of the addresses answers first. The secret keeps out a stranger at one of them. */
async function connectToAny({ hosts, port, secret }: StorePlace): Promise<TCPStore> {
  const found = new AbortController();
  const limits = { timeout: STORE_LIMIT_MS, signal: found.signal, waitForWorkers: false };
  const attempts = hosts.map((host) => TCPStore.connect({ host, port, secret, ...limits }));
  try {
    const first = await Promise.any(attempts);
    for (const attempt of attempts) {
      attempt.then(
        (store) => (store === first ? undefined : store.close()),
        () => {},
      );
    }
    return first;
  } catch (error) {
    throw error instanceof AggregateError ? error.errors[0] : error;
  } finally {
    found.abort();
  }
}

/** IPv4 addresses by which other hosts may reach this one. */
function ownAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const outside = all.filter(({ family, internal }) => family === "IPv4" && !internal).map(({ address }) => address);
  return outside.length === 0 ? ["127.0.0.1"] : outside.slice(0, MAX_HOSTS);
}
