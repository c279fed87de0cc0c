import { DistNetworkError } from "../../../errors/index.ts";
import { pause } from "../../../time/index.ts";
import type { CallLimit } from "../client/call.ts";
import { ServerHost } from "./server-host.ts";
import type { HostedServerOptions } from "./server-message.ts";

interface Tenancy {
  readonly host: Promise<ServerHost>;
  tenants: number;
}

/** Servers of this process that further masters on the same port share. */
const shared = new Map<number, Tenancy>();
/** Ports of servers of this process that are closing. */
const ending = new Set<number>();
/** How long to wait for a port that another process holds, such as an earlier run that is exiting. */
const patienceMs = 2_000;
const firstPauseMs = 10;
const longestPauseMs = 100;

/** A share in a server that runs in this process. */
export interface ServerLease {
  readonly address: string;
  readonly port: number;
  /** Gives it up; the last share waits up to `drainMs` until all clients have disconnected, and ends the server. */
  release(drainMs: number): Promise<void>;
}

/**
 * Starts a server in a Worker, or, with `multiTenant`, shares the one that this process has on that port. Waits, within
 * the limit, for a port that an earlier server is about to release.
 */
export async function leaseServer(
  options: HostedServerOptions,
  multiTenant: boolean,
  limit: CallLimit,
): Promise<ServerLease> {
  if (!multiTenant) {
    const host = await start(options, limit);
    return lease(host, (drainMs) => end(host, drainMs));
  }
  const tenancy = shared.get(options.port) ?? { host: start(options, limit), tenants: 0 };
  tenancy.tenants++;
  // A server that was started with port 0 is found by the port that it got.
  let { port } = options;
  if (port !== 0) shared.set(port, tenancy);
  const leave = () => {
    if (--tenancy.tenants > 0) return false;
    if (shared.get(port) === tenancy) shared.delete(port);
    return true;
  };
  try {
    const host = await tenancy.host;
    port = host.port;
    if (options.port === 0) shared.set(port, tenancy);
    return lease(host, async (drainMs) => {
      if (leave()) await end(host, drainMs);
    });
  } catch (error) {
    leave();
    throw error;
  }
}

async function start(options: HostedServerOptions, limit: CallLimit): Promise<ServerHost> {
  const patient = Math.min(limit.deadline, performance.now() + patienceMs);
  let delay = firstPauseMs;
  return ServerHost.start(options, async (error) => {
    const isTaken = error instanceof DistNetworkError && error.code === "PORT_IN_USE";
    const left = (ending.has(options.port) ? limit.deadline : patient) - performance.now();
    if (!isTaken || left <= 0) throw error;
    await pause(Math.min(delay, left), limit.signal);
    delay = Math.min(delay * 1.5, longestPauseMs);
  });
}

function lease(host: ServerHost, release: (drainMs: number) => Promise<void>): ServerLease {
  let released: Promise<void> | undefined;
  return {
    address: host.address,
    port: host.port,
    release: (drainMs) => {
      released ??= release(drainMs);
      return released;
    },
  };
}

async function end(host: ServerHost, drainMs: number): Promise<void> {
  ending.add(host.port);
  try {
    if (drainMs > 0) await host.drained(drainMs);
    await host.close();
  } finally {
    ending.delete(host.port);
  }
}
