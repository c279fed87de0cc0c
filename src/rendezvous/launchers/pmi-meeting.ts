import { fstatSync } from "node:fs";
import type { Environment } from "../../environment/index.ts";
import { environmentSecret, newSecret } from "../../store/tcp/store-secret.ts";
import { defaultTimeoutMs, timeoutMs } from "../../time/index.ts";
import { connectToPlace, hostStore } from "../hosted-store.ts";
import type { Rendezvous, RendezvousOptions } from "../rendezvous-handler.ts";
import { PmiClient } from "./pmi-client.ts";

/** The number of meetings of this process so far, which is the same in all ranks. */
let meetings = 0;

/** The socket by which this process reaches the launcher that speaks PMI; undefined where there is none. */
export function pmiSocket(env: Environment): number | undefined {
  const fd = env.PMI_FD ? Number(env.PMI_FD) : Number.NaN;
  if (process.platform !== "linux" || !Number.isSafeInteger(fd) || fd < 0) return undefined;
  try {
    // A child process of a rank has its variables, but not always its sockets.
    return fstatSync(fd).isSocket() ? fd : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Meets all ranks that the launcher started in a store that rank 0 hosts, at a free port. The launcher passes on its
 * address and port, with a new secret unless all know one already.
 */
export async function meetByPmi(
  fd: number,
  { rank, worldSize, oneHost }: { readonly rank: number; readonly worldSize: number; readonly oneHost: boolean },
  options: RendezvousOptions,
): Promise<Rendezvous> {
  const limitMs = timeoutMs(options.timeout, defaultTimeoutMs.store);
  const signal = options.signal ? { signal: options.signal } : {};
  const limits = { deadline: performance.now() + limitMs, ...signal };
  const left = () => ({ timeout: Math.max(limits.deadline - performance.now(), 1), ...signal });
  const client = PmiClient.of(fd);
  const known = environmentSecret(options.env);
  const key = `bun-c10d-${meetings++}`;
  if (rank !== 0) {
    await client.barrier(limits);
    const [port = "", secret = "", ...hosts] = (await client.get(key, limits)).split(",");
    const store = await connectToPlace({ hosts, port: Number(port), secret: known ?? secret }, left());
    store.setTimeout(limitMs);
    return { store, rank, worldSize, close: (close) => store.close(close) };
  }
  const { store, place, close } = await hostStore(oneHost, known ?? newSecret(), left());
  store.setTimeout(limitMs);
  try {
    await client.put(key, [place.port, known === null ? place.secret : "", ...place.hosts].join(","), limits);
    await client.barrier(limits);
  } catch (error) {
    await close().catch(() => {});
    throw error;
  }
  return { store, rank, worldSize, close };
}
