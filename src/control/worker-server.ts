import type { DependencyContainer } from "tsyringe";
import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { brand, describe, InvalidArgumentError } from "../errors/index.ts";
import { defaultContainer, requireContainer } from "../registry/index.ts";
import { type Timeout, timeoutMs } from "../time/index.ts";
import type { RunningServer } from "./running-server.ts";

/** Options of a {@link WorkerServer}. */
export interface WorkerServerOptions {
  /** Whose handlers it serves, and whose ops its dumps are about. Default: the one that `initProcessGroup()` uses. */
  readonly container?: DependencyContainer;
  /** What requests over TCP have to know: at least 22 random letters, digits, `-`, `_`. Default: a new one. */
  readonly token?: string;
  /** Of several ranks in one process, the one that its dumps are about. Default: all that the container has. */
  readonly rank?: number;
  /** How long a handler may take, 30 s by default: then the answer is status 500, though the handler goes on. */
  readonly handlerTimeout?: Timeout;
}

/** The options of a {@link WorkerServer}. */
export const workerServerOptionNames: OptionNames<WorkerServerOptions> = {
  container: true,
  token: true,
  rank: true,
  handlerTimeout: true,
};

const HANDLER_LIMIT_MS = 30_000;
/** Characters of base64url that hold 128 bits. */
const LEAST_TOKEN = 22;

/**
 * An HTTP server by which others look into this process: which ops are in flight, where it hangs, what its handlers
 * ({@link registerHandler}) say. PyTorch's debug front end reads it (docs/control.md).
 *
 * It runs on a thread of its own, so that it answers while this one blocks in `wait()`. It does not keep the process
 * alive. On TCP each request has to know the token: `Authorization: Bearer <token>`, or the path `/<token>/…`, as in
 * {@link url}. A Unix socket has mode 0600 instead.
 *
 * ```ts
 * await using server = new WorkerServer("127.0.0.1", 0);
 * await fetch(`${server.url}/handler/ping`, { method: "POST" }); // pong
 * ```
 *
 * c10d: `_WorkerServer`, which asks for no token.
 */
export class WorkerServer implements Disposable, AsyncDisposable {
  static {
    brand(WorkerServer, "WorkerServer");
  }
  readonly #running: RunningServer;

  /**
   * Starts a server; it listens when the constructor returns.
   *
   * @param hostOrFile Address of the interface to listen on, or with port -1 the path of a Unix socket, which is made.
   *   It is removed with the server, or when the process exits.
   * @param port 0 takes a free one.
   * @throws DistNetworkError: `ADDRESS_EXISTS` ("<path> already exists: …", unless it is a socket of this user on which
   *   nobody listens any more), `LISTEN_FAILED` ("Error binding to …"); InvalidArgumentError.
   */
  constructor(hostOrFile: string, port = -1, options: WorkerServerOptions = {}) {
    requireOptionNames("WorkerServer", options, workerServerOptionNames);
    const { container = defaultContainer(), rank, token, handlerTimeout } = options;
    requireContainer("WorkerServer", container);
    requirePlace(hostOrFile, port);
    if (token !== undefined) requireToken(token);
    if (rank !== undefined && (!Number.isSafeInteger(rank) || rank < 0)) {
      throw new InvalidArgumentError(`WorkerServer: rank must be an integer of at least 0, got ${describe(rank)}`, {
        argument: "rank",
      });
    }
    const handlerMs = timeoutMs(handlerTimeout, HANDLER_LIMIT_MS);
    this.#running = new (running().RunningServer)(hostOrFile, port, { container, globalRank: rank, token, handlerMs });
  }

  /** Port that it listens on; -1 for a Unix socket. */
  get port(): number {
    return this.#running.port;
  }

  /** What requests over TCP have to know; `undefined` for a Unix socket. */
  get token(): string | undefined {
    return this.#running.token;
  }

  /**
   * Its address, with the token: what PyTorch's front end finds in the store. For all interfaces (`0.0.0.0`, `::`) with
   * the name of this host, as PyTorch's; for a Unix socket `unix:<path>`.
   */
  get url(): string {
    return this.#running.url;
  }

  /** Whether it has not been shut down. */
  get isOpen(): boolean {
    return this.#running.isOpen;
  }

  /** Stops the server. Blocks until it no longer listens; a socket file of its own is removed. c10d: `shutdown`. */
  shutdown(): void {
    this.#running.stop();
  }

  [Symbol.dispose](): void {
    this.shutdown();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.shutdown();
  }
}

/** Loaded for the first server: most processes have none. */
function running(): typeof import("./running-server.ts") {
  return require("./running-server.ts");
}

function requirePlace(hostOrFile: string, port: number): void {
  if (typeof hostOrFile !== "string" || hostOrFile === "" || hostOrFile.includes("\0")) {
    throw new InvalidArgumentError(
      `WorkerServer: hostOrFile must be an address or a path, got ${describe(hostOrFile)}`,
      { argument: "hostOrFile" },
    );
  }
  if (Number.isInteger(port) && port >= -1 && port <= 65_535) return;
  throw new InvalidArgumentError(
    `WorkerServer: port must be an integer from 0 to 65535, or -1 for a Unix socket; got ${describe(port)}`,
    { argument: "port" },
  );
}

/** @throws InvalidArgumentError for a token that could be guessed, or that a URL could not contain as it is. */
function requireToken(token: string): void {
  const isText = typeof token === "string";
  if (isText && token.length <= 256 && token.length >= LEAST_TOKEN && /^[A-Za-z0-9_-]+$/.test(token)) return;
  const given = isText ? `${token.length} characters` : describe(token);
  throw new InvalidArgumentError(
    `WorkerServer: a token is ${LEAST_TOKEN} to 256 random letters, digits, "-" and "_", got ${given}`,
    { argument: "token" },
  );
}
