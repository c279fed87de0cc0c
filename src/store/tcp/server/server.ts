import { DistError, DistNetworkError, InvalidArgumentError, messageOf } from "../../../errors/index.ts";
import { startTimer, type Timeout, type Timer, timeoutMs } from "../../../time/index.ts";
import { checkPort } from "../../arguments.ts";
import { KeyValueTable } from "../../key-value-table.ts";
import { shortageError } from "../client/connection-errors.ts";
import { hostPort, listenAddress } from "../host-address.ts";
import { chosenSecret, StoreSecret } from "../store-secret.ts";
import { serverFullAnswer } from "../wire/handshake.ts";
import { identityMark } from "../wire/protocol.ts";
import { Barriers } from "./barriers.ts";
import { connectionLimit } from "./connection-limit.ts";
import { isSecretRefusal } from "./refused-connections.ts";
import { ServerConnection, type ServerSocket, type ServerState } from "./server-connection.ts";

/** Where a {@link TCPStoreServer} listens, and what it serves. */
export interface TCPStoreServerOptions {
  /** Address or name of the interface to listen on; all interfaces only with `0.0.0.0` or `::`. */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** A listening socket to adopt instead of binding one; `port` must be its port or 0. */
  readonly listenFd?: number;
  /** Connections served at a time; default: as many as the limit of open files leaves, except for a reserve. */
  readonly maxConnections?: number;
  /** How long a connection may stay silent before its first message; default 30 s. */
  readonly handshakeTimeout?: Timeout;
  /**
   * What clients have to prove to know; null for PyTorch's open protocol. Default: `C10D_STORE_SECRET`, and the open
   * protocol without it or under torchrun. docs/security.md says what it protects.
   */
  readonly secret?: string | null;
  /** Called for every connection that is dropped because it does not speak the protocol or does not know the secret. */
  readonly onDrop?: (reason: string, peer: string, code: string) => void;
  /** Called when a client has disconnected, with address and port of its end, as in its `TCPStore.localEndpoint`. */
  readonly onLeave?: (peer: string) => void;
}

type Socket = Bun.Socket<ServerConnection | undefined>;

/**
 * The server of a {@link TCPStore}: speaks PyTorch's protocol, so PyTorch's clients can use it, too, unless it has a
 * secret.
 *
 * Connections that send something else, or nothing in time, are dropped without effect on others. It runs on the event
 * loop of its thread: put it on one that does not block.
 */
export class TCPStoreServer implements AsyncDisposable {
  /** As in the options. */
  readonly host: string;
  /** Where it listens. */
  readonly address: string;
  readonly port: number;
  readonly #maxConnections: number;
  readonly #firstReserved: number;
  readonly #handshakeMs: number;
  readonly #onDrop: TCPStoreServerOptions["onDrop"];
  readonly #onLeave: TCPStoreServerOptions["onLeave"];
  readonly #state: ServerState;
  readonly #listener: Bun.SocketListener<ServerConnection | undefined>;
  /** Connections that have not shown yet that they speak the protocol, oldest first. */
  readonly #strangers = new Set<Socket>();
  /** Clients that have not sent a request yet, oldest first. */
  readonly #idlers = new Set<Socket>();
  /** Clients, and their addresses if `onLeave` needs them: a closed socket has none. */
  readonly #clients = new Map<Socket, string>();
  readonly #drained = new Set<() => void>();
  #sweep: Timer | undefined;
  #dropped = 0;

  /**
   * Starts a server.
   * @throws DistNetworkError `PORT_IN_USE`, `UNKNOWN_HOST`, `LISTEN_FAILED`; InvalidArgumentError.
   */
  static async listen(options: TCPStoreServerOptions): Promise<TCPStoreServer> {
    checkPort(options.port);
    const address = await listenAddress(options.host);
    // This fails if no descriptor is left to read it; opening the socket below then reports the shortage.
    const backlog = await import("./listen-backlog.ts").catch(() => undefined);
    if (options.listenFd === undefined) {
      const server = new TCPStoreServer(options, address, undefined);
      backlog?.widenBacklog(server.#listener);
      return server;
    }
    const { boundPort } = await import("./bound-port.ts");
    const port = boundPort(options.listenFd);
    if (options.port !== 0 && options.port !== port) {
      throw new InvalidArgumentError(
        `listen fd ${options.listenFd} is bound to port ${port}, expected to be bound to port ${options.port}`,
        { argument: "listenFd", port },
      );
    }
    const server = new TCPStoreServer(options, address, port);
    backlog?.widenBacklog(server.#listener);
    return server;
  }

  private constructor(options: TCPStoreServerOptions, address: string, adoptedPort: number | undefined) {
    this.host = options.host;
    this.address = address;
    const limits = connectionLimit();
    this.#maxConnections = Math.min(options.maxConnections ?? limits.connections, limits.connections);
    this.#firstReserved = limits.firstReserved;
    this.#handshakeMs = timeoutMs(options.handshakeTimeout, 30_000);
    this.#onDrop = options.onDrop;
    this.#onLeave = options.onLeave;
    const secret = chosenSecret(options.secret);
    const table = new KeyValueTable();
    this.#state = {
      table,
      barriers: new Barriers(table),
      identity: crypto.getRandomValues(new Uint32Array(identityMark.parts)),
      secret: secret === null ? undefined : new StoreSecret(secret),
    };
    const where =
      adoptedPort === undefined ? { hostname: address, port: options.port } : { fd: options.listenFd ?? -1 };
    try {
      const listener = Bun.listen<ServerConnection | undefined>({
        // An inherited descriptor is taken as well, though the types do not say so.
        ...(where as { hostname: string; port: number }),
        data: undefined,
        socket: {
          open: (socket) => this.#open(socket),
          data: (socket, chunk) => this.#attempt(socket, () => this.#receive(socket, chunk)),
          drain: (socket) => this.#attempt(socket, () => socket.data?.drain()),
          close: (socket) => this.#forget(socket),
          error: (socket) => socket.terminate(),
        },
      });
      this.#listener = listener;
      this.port = adoptedPort ?? listener.port;
    } catch (error) {
      throw listenFailed(options, error);
    }
  }

  /** Clients that are connected now. */
  get clients(): number {
    return this.#clients.size;
  }

  /** Connections dropped so far because they did not speak the protocol or did not know the secret. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Resolves to true when no client is connected, or to false when that takes too long. */
  drained(timeout: Timeout): Promise<boolean> {
    if (this.#clients.size === 0) return Promise.resolve(true);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const done = (empty: boolean) => {
      timer[Symbol.dispose]();
      this.#drained.delete(left);
      resolve(empty);
    };
    const left = () => done(true);
    const timer = startTimer(timeoutMs(timeout, 0), () => done(false));
    this.#drained.add(left);
    return promise;
  }

  /** Accepts no more connections; those of clients stay. A refused client reaches the next server by trying again. */
  stopListening(): void {
    this.#listener.stop(false);
    for (const socket of this.#strangers) socket.terminate();
  }

  /** Stops listening and closes all connections. */
  async close(): Promise<void> {
    this.#sweep?.[Symbol.dispose]();
    this.#listener.stop(true);
    for (const socket of [...this.#strangers, ...this.#clients.keys()]) socket.terminate();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #open(socket: Socket): void {
    if (this.#isFull(socket) && !this.#dropIdle()) {
      this.#refuse(socket);
      return;
    }
    // Bun has pause() and resume() on its sockets; its types lack them.
    const pausable = socket as Socket & ServerSocket;
    socket.data = new ServerConnection(pausable, this.#state);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 30_000);
    this.#strangers.add(socket);
    this.#sweep ??= this.#sweepIn(this.#handshakeMs);
  }

  #isFull(socket: Socket): boolean {
    if (this.#strangers.size + this.#clients.size >= this.#maxConnections) return true;
    // Bun has the descriptor on its sockets; its types lack it.
    return ((socket as Socket & { readonly fd?: number }).fd ?? 0) >= this.#firstReserved;
  }

  /** Drops the oldest connection that has not sent a request yet; a client of this package reconnects. */
  #dropIdle(): boolean {
    const [stranger] = this.#strangers;
    const [idler] = this.#idlers;
    const victim = stranger ?? idler;
    if (victim !== undefined) this.#drop(victim, "too many connections", "TOO_MANY_CONNECTIONS");
    return victim !== undefined;
  }

  /** Refuses a connection because the server is full. The answer may be lost, as nothing was read from the client. */
  #refuse(socket: Socket): void {
    this.#dropped++;
    this.#onDrop?.("too many connections", peerOf(socket), "TOO_MANY_CONNECTIONS");
    socket.write(serverFullAnswer(this.#state.secret));
    socket.end();
  }

  #receive(socket: Socket, chunk: Uint8Array): void {
    const connection = socket.data;
    if (connection === undefined) return;
    connection.receive(chunk);
    if (connection.validated && this.#strangers.delete(socket)) {
      this.#clients.set(socket, this.#onLeave === undefined ? "" : peerOf(socket));
      this.#idlers.add(socket);
    }
    if (connection.hasSentRequest) this.#idlers.delete(socket);
  }

  #attempt(socket: Socket, body: () => void): void {
    try {
      body();
    } catch (error) {
      const code = error instanceof DistError ? error.code : "PROTOCOL_VIOLATION";
      this.#drop(socket, messageOf(error), code);
    }
  }

  #drop(socket: Socket, reason: string, code: string): void {
    this.#dropped++;
    this.#onDrop?.(reason, peerOf(socket), code);
    this.#forget(socket);
    // A refusal was written and must arrive; a reset would overtake it.
    if (isSecretRefusal(code)) socket.end();
    else socket.terminate();
  }

  #forget(socket: Socket): void {
    socket.data?.release();
    socket.data = undefined;
    this.#strangers.delete(socket);
    this.#idlers.delete(socket);
    const peer = this.#clients.get(socket);
    if (peer === undefined) return;
    this.#clients.delete(socket);
    this.#onLeave?.(peer);
    if (this.#clients.size === 0) for (const left of this.#drained) left();
  }

  #sweepIn(delayMs: number): Timer {
    const timer = startTimer(delayMs, () => this.#dropSilent());
    timer.unref();
    return timer;
  }

  #dropSilent(): void {
    this.#sweep = undefined;
    for (const socket of this.#strangers) {
      const leftMs = (socket.data?.openedAt ?? 0) + this.#handshakeMs - performance.now();
      if (leftMs > 1) {
        this.#sweep = this.#sweepIn(leftMs);
        return;
      }
      this.#drop(socket, `no handshake within ${this.#handshakeMs} ms`, "HANDSHAKE_TIMEOUT");
    }
  }
}

function peerOf(socket: Socket): string {
  return hostPort(socket.remoteAddress ?? "?", socket.remotePort ?? 0);
}

function listenFailed(options: TCPStoreServerOptions, cause: unknown): DistNetworkError {
  const { host, port } = options;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  const where = `the store server cannot listen on ${hostPort(host, port)}`;
  const short = shortageError(where, options, cause);
  if (short !== undefined) return short;
  if (code === "EADDRINUSE") {
    return new DistNetworkError(
      `${where}: the port is in use. Stop the process that holds it (an earlier run?), or choose another port (MASTER_PORT).`,
      { code: "PORT_IN_USE", host, port, cause },
    );
  }
  const hint =
    code === "EADDRNOTAVAIL"
      ? "this machine has no such address. Rank 0 must run on the host that MASTER_ADDR names"
      : String(code ?? cause);
  return new DistNetworkError(`${where}: ${hint}.`, { code: "LISTEN_FAILED", host, port, cause });
}
