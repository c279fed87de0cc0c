import type { DependencyContainer } from "tsyringe";
import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { currentContext, type DistContext } from "../distributed/dist-context.ts";
import { environmentInteger, environmentText } from "../environment/index.ts";
import { InvalidArgumentError } from "../errors/index.ts";
import { defaultContainer } from "../registry/index.ts";
import { PrefixStore, type Store, type StoreCallOptions, TCPStore } from "../store/index.ts";
import { defaultTimeoutMs, type Timeout, timeoutMs } from "../time/index.ts";
import { WorkerServer, type WorkerServerOptions, workerServerOptionNames } from "./worker-server.ts";

/** Options of {@link startDebugServer}. */
export interface DebugServerOptions extends WorkerServerOptions {
  /**
   * Address of the interface that the front end reaches this rank on. Default: loopback, for a front end on this host;
   * c10d listens on all interfaces.
   */
  readonly host?: string;
  /** Port of this rank's server; a free one by default. c10d: `worker_port`. */
  readonly workerPort?: number;
  /** Where the front end looks. Default: the TCP store at `MASTER_ADDR` and `MASTER_PORT`, else the default group's. */
  readonly store?: Store;
  /** Default: the rank in the default group, else `RANK`. */
  readonly rank?: number;
  /** Limit for announcing the server in the store; 5 minutes by default. */
  readonly timeout?: Timeout;
}

const optionNames: OptionNames<DebugServerOptions> = {
  ...workerServerOptionNames,
  host: true,
  workerPort: true,
  store: true,
  timeout: true,
};

/** The part of the store where PyTorch's front end looks for the servers of all ranks. */
const PREFIX = "debug_server";

const servers = new WeakMap<DistContext, WorkerServer>();

/**
 * Starts a {@link WorkerServer} for this rank and announces it in the store, so that PyTorch's debug front end shows this
 * rank beside the others. Every rank has to call it, or the front end waits. The front end itself runs in Python, started
 * by `start_debug_server()` of a Python rank 0 or alone (docs/control.md).
 *
 * ```ts
 * await using server = await startDebugServer();
 * ```
 *
 * @throws InvalidArgumentError (called twice, no store, no rank), DistNetworkError, DistTimeoutError.
 *
 * c10d: `torch.distributed.debug.start_debug_server`.
 */
export async function startDebugServer(options: DebugServerOptions = {}): Promise<WorkerServer> {
  requireOptionNames("startDebugServer", options, optionNames);
  const context = currentContext();
  if (servers.get(context)?.isOpen)
    throw new InvalidArgumentError("debug server already started", { code: "ALREADY_STARTED" });
  const limits = { timeout: timeoutMs(options.timeout, defaultTimeoutMs.store) };
  const { host = "127.0.0.1", workerPort = 0, token, handlerTimeout } = options;
  const rank = rankOf(options, context);
  const container: DependencyContainer = options.container ?? context.world?.container ?? defaultContainer();
  const server = new WorkerServer(host, workerPort, {
    container,
    rank,
    ...(token !== undefined && { token }),
    ...(handlerTimeout !== undefined && { handlerTimeout }),
  });
  servers.set(context, server);
  try {
    await announce(`rank${rank}`, server.url, options, context, limits);
    return server;
  } catch (error) {
    servers.delete(context);
    server.shutdown();
    throw error;
  }
}

/**
 * Stops the server of {@link startDebugServer}. Its address stays in the store: without it, the front end would wait for
 * the rank instead of reporting that it cannot be reached.
 *
 * @throws InvalidArgumentError when none was started. c10d: `stop_debug_server`.
 */
export function stopDebugServer(): void {
  const context = currentContext();
  const server = servers.get(context);
  if (!server?.isOpen) throw new InvalidArgumentError("debug server is not started", { code: "NOT_STARTED" });
  servers.delete(context);
  server.shutdown();
}

function rankOf({ rank }: DebugServerOptions, { world }: DistContext): number {
  const known = rank ?? world?.group.rank ?? environmentInteger("RANK");
  if (known === undefined || !Number.isSafeInteger(known) || known < 0) {
    throw new InvalidArgumentError("startDebugServer: the rank is not known: set RANK, or give the option rank", {
      argument: "rank",
    });
  }
  return known;
}

async function announce(
  key: string,
  url: string,
  { store }: DebugServerOptions,
  { world }: DistContext,
  limits: StoreCallOptions & { readonly timeout: number },
): Promise<void> {
  if (store !== undefined) return new PrefixStore(PREFIX, store).set(key, url, limits);
  const host = environmentText("MASTER_ADDR");
  const port = environmentInteger("MASTER_PORT");
  if (host === undefined || port === undefined) {
    if (world !== undefined) return new PrefixStore(PREFIX, world.store).set(key, url, limits);
    throw new InvalidArgumentError(
      "startDebugServer: there is no store to announce the server in: set MASTER_ADDR and MASTER_PORT, give the option store, or call initProcessGroup() first",
      { argument: "store" },
    );
  }
  // As PyTorch's does: a connection of its own, so that the group's store may have any prefix and be in use.
  await using client = await TCPStore.connect({ host, port, isMaster: false, ...limits });
  await new PrefixStore(PREFIX, client).set(key, url, limits);
}
