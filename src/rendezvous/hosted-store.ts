import { networkInterfaces } from "node:os";
import type { StoreCallOptions } from "../store/index.ts";
import { TCPStore } from "../store/index.ts";
import type { TCPStoreCloseOptions } from "../store/tcp/client/tcp-store-options.ts";

/** Where a rank hosts a store; what the others need to reach it. */
export interface StorePlace {
  /** Addresses of the host; other hosts need not reach all of them. */
  readonly hosts: readonly string[];
  readonly port: number;
  readonly secret: string;
}

/** The most addresses that fit into what launchers and backends can pass on. */
const MAX_HOSTS = 8;

/** A store that this rank hosts. */
export interface HostedStore {
  readonly store: TCPStore;
  readonly place: StorePlace;
  /** Closes the store and ends its server. */
  close(options?: TCPStoreCloseOptions): Promise<void>;
}

/**
 * Hosts a store at a free port: on the loopback interface if all ranks are on one host, else on all IPv4 interfaces.
 * Then this rank, too, connects by an address that the others use, since backends take their own address from that.
 */
export async function hostStore(oneHost: boolean, secret: string, limits: StoreCallOptions): Promise<HostedStore> {
  const host = oneHost ? "127.0.0.1" : "0.0.0.0";
  const server = await TCPStore.connect({ host, port: 0, isMaster: true, waitForWorkers: false, secret, ...limits });
  const place = { hosts: oneHost ? [host] : ownAddresses(), port: server.port, secret };
  if (oneHost) return { store: server, place, close: (options) => server.close(options) };
  try {
    const store = await connectToPlace(place, limits);
    const close = async (options?: TCPStoreCloseOptions) => {
      await store.close();
      await server.close(options);
    };
    return { store, place, close };
  } catch (error) {
    await server.close().catch(() => {});
    throw error;
  }
}

/** Connects by whichever of the addresses answers first. The secret keeps out a stranger at one of them. */
export async function connectToPlace(
  { hosts, port, secret }: StorePlace,
  { timeout, signal }: StoreCallOptions,
): Promise<TCPStore> {
  const found = new AbortController();
  const limits = {
    ...(timeout !== undefined && { timeout }),
    signal: signal === undefined ? found.signal : AbortSignal.any([found.signal, signal]),
    waitForWorkers: false,
  };
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
