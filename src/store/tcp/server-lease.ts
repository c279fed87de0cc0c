import { ServerHost } from "./server-host.ts";
import type { HostedServerOptions } from "./server-message.ts";

/** Servers of this process that further masters on the same port share. */
const shared = new Map<number, { readonly host: Promise<ServerHost>; tenants: number }>();

/** A share in a server that runs in this process. */
export interface ServerLease {
  readonly address: string;
  readonly port: number;
  /** Gives it back; the last one waits up to `drainMs` until all clients have left, and ends the server. */
  release(drainMs: number): Promise<void>;
}

/** Starts a server in a Worker, or, with `multiTenant`, shares the one that this process has on that port. */
export async function leaseServer(options: HostedServerOptions, multiTenant: boolean): Promise<ServerLease> {
  if (!multiTenant || options.port === 0) {
    const host = await ServerHost.start(options);
    return lease(host, (drainMs) => end(host, drainMs));
  }
  const { port } = options;
  const tenancy = shared.get(port) ?? { host: ServerHost.start(options), tenants: 0 };
  shared.set(port, tenancy);
  tenancy.tenants++;
  const leave = () => {
    if (--tenancy.tenants > 0) return false;
    if (shared.get(port) === tenancy) shared.delete(port);
    return true;
  };
  try {
    const host = await tenancy.host;
    return lease(host, async (drainMs) => {
      if (leave()) await end(host, drainMs);
    });
  } catch (error) {
    leave();
    throw error;
  }
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
  if (drainMs > 0) await host.drained(drainMs);
  await host.close();
}
