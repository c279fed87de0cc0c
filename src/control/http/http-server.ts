import { HttpConnection, type HttpLimits, type HttpService } from "./http-connection.ts";

/** Limits of a server. */
export interface HttpServerLimits extends HttpLimits {
  readonly connections: number;
}

/** Where a server listens: one address, or a Unix socket. */
export type ListenAddress = { readonly hostname: string; readonly port: number } | { readonly unix: string };

/**
 * A small HTTP/1.1 server for a few clients. Unlike `Bun.serve` it limits its connections: those that are silent or slow
 * must not use up the descriptors of a rank.
 */
export class HttpServer {
  readonly port: number;
  readonly #service: HttpService;
  readonly #limits: HttpServerLimits;
  readonly #listener: Bun.SocketListener<HttpConnection>;
  /** Oldest first. */
  readonly #connections = new Map<Bun.Socket<HttpConnection>, HttpConnection>();

  /** @throws what `Bun.listen` throws. */
  constructor(address: ListenAddress, service: HttpService, limits: HttpServerLimits) {
    this.#service = service;
    this.#limits = limits;
    const socket: Bun.SocketHandler<HttpConnection> = {
      open: (opened) => this.#open(opened),
      data: (sender, chunk) => sender.data.receive(chunk),
      drain: (ready) => ready.data.drain(),
      close: (closed) => {
        this.#connections.delete(closed);
        closed.data.closed();
      },
      error: (broken) => broken.terminate(),
    };
    const data = undefined as never; // set by #open()
    if ("unix" in address) {
      this.#listener = Bun.listen<HttpConnection>({ unix: address.unix, data, socket }) as never;
      this.port = -1;
    } else {
      const listener = Bun.listen<HttpConnection>({ ...address, data, socket });
      this.#listener = listener;
      this.port = listener.port;
    }
  }

  /** Stops listening and ends all connections. */
  stop(): void {
    this.#listener.stop(true);
  }

  #open(socket: Bun.Socket<HttpConnection>): void {
    const connection = new HttpConnection(socket, this.#service, this.#limits);
    socket.data = connection;
    const isFull = this.#connections.size >= this.#limits.connections && !this.#dropStranger();
    this.#connections.set(socket, connection);
    if (isFull) connection.refuse(503, `${this.#limits.connections} requests are being served; try again later`);
  }

  /** Drops the oldest connection that has not been let in, so that silent ones keep nobody out. */
  #dropStranger(): boolean {
    for (const [socket, connection] of this.#connections) {
      if (connection.isAdmitted) continue;
      this.#connections.delete(socket);
      socket.terminate();
      return true;
    }
    return false;
  }
}
