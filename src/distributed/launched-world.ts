import { environmentText } from "../environment/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { type BackendPlugin, type LaunchedWorld, type SettleLimit, settledWithin } from "../registry/index.ts";
import { connectToPlace, type HostedStore, hostStore, type StorePlace } from "../rendezvous/hosted-store.ts";
import type { Rendezvous } from "../rendezvous/index.ts";
import { HashStore } from "../store/index.ts";
import type { Store } from "../store/store.ts";
import { newSecret } from "../store/tcp/store-secret.ts";

/** The options of `initProcessGroup` that say where the ranks meet. */
interface MeetingOptions {
  readonly init?: string;
  readonly initMethod?: string;
  readonly store?: Store;
  readonly rank?: number;
  readonly worldSize?: number;
}

/** How long meeting in a shared store may take; the library has already brought the ranks together. */
const STORE_LIMIT_MS = 60_000;

/** The world of the first of these backends that was started by its own launcher; undefined if none was. */
export async function launchedWorld(
  plugins: Iterable<BackendPlugin>,
  options: ReadonlyMap<BackendPlugin, object>,
  limit: SettleLimit,
): Promise<LaunchedWorld | undefined> {
  for (const plugin of plugins) {
    if (plugin.launched === undefined) continue;
    const terms = { timeoutMs: limit.limitMs, options: options.get(plugin) ?? {} };
    const own = { ...limit, details: { ...limit.details, backend: plugin.name } };
    return settledWithin(`launched() of backend "${plugin.name}"`, async () => plugin.launched?.(terms), own);
  }
  return undefined;
}

/**
 * Finds a store for a world whose rank and size are known: the caller's, that of MASTER_ADDR and MASTER_PORT, else one
 * that rank 0 hosts and announces to the others through the backend.
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
  const { share } = world;
  if (isGiven || (share !== undefined && environmentText("MASTER_ADDR") && environmentText("MASTER_PORT")))
    return meet({ ...options, rank, worldSize });
  if (share === undefined || worldSize === 1) return { store: new HashStore(), rank, worldSize };
  const { store, close } = await shareStore(world, (value) => share.call(world, value));
  return { store, rank, worldSize, close };
}

function agree(argument: "rank" | "worldSize", given: number | undefined, actual: number): void {
  if (given === undefined || given === actual) return;
  throw new InvalidArgumentError(
    `initProcessGroup: ${argument} is ${given}, but the launcher of this job set ${actual}; leave it out`,
    { argument },
  );
}

async function shareStore(
  { rank, oneHost }: LaunchedWorld,
  share: (value: Uint8Array) => Promise<Uint8Array>,
): Promise<Pick<HostedStore, "store" | "close">> {
  const limits = { timeout: STORE_LIMIT_MS };
  if (rank !== 0) {
    const place = JSON.parse(new TextDecoder().decode(await share(new Uint8Array()))) as StorePlace;
    const store = await connectToPlace(place, limits);
    return { store, close: (options) => store.close(options) };
  }
  const hosted = await hostStore(oneHost, newSecret(), limits);
  await share(new TextEncoder().encode(JSON.stringify(hosted.place)));
  return hosted;
}
