import { environmentFlag, environmentText } from "../../../environment/index.ts";
import { describe, InvalidArgumentError } from "../../../errors/index.ts";
import type { Timeout } from "../../../time/index.ts";
import { checkPort, checkWorldSize } from "../../arguments.ts";
import { leaseServer, type ServerLease } from "../server/server-lease.ts";
import type { CallLimit } from "./call.ts";

/** What `TCPStore.connect` takes. */
export interface TCPStoreOptions {
  /** Host of the server. The master listens on exactly that interface. */
  readonly host: string;
  /** Port of the server; 0, on the master only, takes a free one (see `TCPStore.port`). */
  readonly port: number;
  /** How many clients will join. Without it clients are neither counted nor waited for. */
  readonly worldSize?: number;
  /** Whether to host the server in this process, in a separate Worker. Default false. */
  readonly isMaster?: boolean;
  /** Time-out of connecting, and of all calls without their own. Default 300 s. */
  readonly timeout?: Timeout;
  /** Whether the master waits until `worldSize` clients have joined. Default true. */
  readonly waitForWorkers?: boolean;
  /** Whether masters of this process share one server per port, also one got by a master with port 0. Default false. */
  readonly multiTenant?: boolean;
  /** A listening socket for the master's server to adopt. */
  readonly masterListenFd?: number;
  /**
   * The secret that client and server first prove to know; null for PyTorch's open protocol. Default:
   * `C10D_STORE_SECRET`, and the open protocol without it or under torchrun. docs/security.md says what it protects.
   */
  readonly secret?: string | null;
  /** Cancels connecting. */
  readonly signal?: AbortSignal;
}

/** What `TCPStore.close` takes. */
export interface TCPStoreCloseOptions {
  /** On the hosting process: how long the server waits for all clients to disconnect. Default: not at all. */
  readonly drainTimeout?: Timeout;
}

/**
 * The number of workers to count, undefined when they are not counted.
 * @throws InvalidArgumentError for options that do not go together.
 */
export function checkOptions(options: TCPStoreOptions): number | undefined {
  if (typeof options !== "object" || options === null) {
    throw new InvalidArgumentError(
      `TCPStore.connect: options must be an object such as { host, port }, got ${describe(options)}`,
      { argument: "options" },
    );
  }
  const { host, port, worldSize, isMaster } = options;
  if (typeof host !== "string" || host === "") {
    throw new InvalidArgumentError("TCPStore: host must be a name or an address", { argument: "host" });
  }
  checkPort(port);
  if (isMaster !== undefined && typeof isMaster !== "boolean") {
    throw new InvalidArgumentError("TCPStore: isMaster must be a boolean", { argument: "isMaster" });
  }
  if (port === 0 && isMaster !== true) {
    throw new InvalidArgumentError("TCPStore: port 0 is for the master; a client needs the port it listens on", {
      argument: "port",
    });
  }
  if (worldSize === 0) {
    throw new InvalidArgumentError("TCPStore world size cannot be 0", { argument: "worldSize" });
  }
  // As in c10d, a negative world size means no world size.
  if (worldSize === undefined || worldSize < 0) return undefined;
  checkWorldSize("connect", worldSize);
  return worldSize;
}

/** The server of a master; a client, or a master whose launcher hosts the store, has none. */
export function hostServer(
  options: TCPStoreOptions,
  secret: string | null,
  limit: CallLimit,
): Promise<ServerLease | undefined> {
  const { host, port, masterListenFd } = options;
  if (options.isMaster !== true || (masterListenFd === undefined && isAgentStore(port))) {
    return Promise.resolve(undefined);
  }
  const server = { host, port, secret, ...(masterListenFd !== undefined && { listenFd: masterListenFd }) };
  return leaseServer(server, options.multiTenant ?? false, limit);
}

/** Where the client of a master connects to: its own server may be reachable under no name yet. */
export function dialHost(host: string, server: ServerLease | undefined): string {
  if (server === undefined) return host;
  if (server.address === "0.0.0.0") return "127.0.0.1";
  return server.address === "::" ? "::1" : server.address;
}

function isAgentStore(port: number): boolean {
  const isHosted = environmentFlag("TORCHELASTIC_USE_AGENT_STORE");
  return isHosted && Number(environmentText("MASTER_PORT")) === port && port !== 0;
}
