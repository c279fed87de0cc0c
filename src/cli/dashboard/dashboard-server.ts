import { DistError } from "../../errors/index.ts";
import type { Reader } from "./op-log.ts";
import type { PageFile } from "./page-files.ts";
import { isSameToken } from "./token.ts";

/** A page that gets messages. */
export interface Viewer extends Reader {
  /** Since when it has not taken what was sent, on the clock of `performance.now()`; undefined if it has. */
  behindSince: number | undefined;
}

type Socket = Bun.ServerWebSocket<Viewer>;

export interface DashboardServerOptions {
  /** 0 for a free one. */
  readonly port: number;
  readonly token: string;
  readonly files: ReadonlyMap<string, PageFile>;
  /** What a viewer gets next, or undefined for nothing. */
  readonly messageFor: (viewer: Viewer) => string | undefined;
  /** The first viewer has come, or the last has left. */
  readonly onViewers: (count: number) => void;
}

const HOST = "127.0.0.1";
const MAX_VIEWERS = 8;
/** A viewer that has not read its messages for this time is disconnected. */
const MAX_BEHIND_MS = 10_000;
/** More than one message of the largest job; a viewer that lets more wait is disconnected. */
const MAX_BUFFERED = 16 * 2 ** 20;
const SECONDS_IDLE = 10;

/**
 * Serves the page on the loopback interface, to those who know the token. What others ask for is not found, whatever it
 * is. Viewers get messages over a WebSocket; one that does not read misses some, or is disconnected.
 */
export class DashboardServer {
  readonly #options: DashboardServerOptions;
  readonly #server: Bun.Server<Viewer>;
  readonly #sockets = new Set<Socket>();

  /** @throws DistError `PORT_IN_USE`, or with the system's code. */
  constructor(options: DashboardServerOptions) {
    this.#options = options;
    try {
      this.#server = Bun.serve<Viewer>({
        ...{ hostname: HOST, port: options.port, idleTimeout: SECONDS_IDLE, development: false },
        // Without it, Bun shares a port that is in use once it is told that this is no development.
        reusePort: false,
        maxRequestBodySize: 0,
        fetch: (request, server) => this.#answer(request, server),
        error: () => notFound(),
        websocket: {
          ...{ maxPayloadLength: 1_024, idleTimeout: 120, perMessageDeflate: false },
          ...{ backpressureLimit: MAX_BUFFERED, closeOnBackpressureLimit: true },
          open: (socket) => this.#join(socket),
          // A page has nothing to say.
          message: (socket) => socket.terminate(),
          close: (socket) => this.#leave(socket),
        },
      });
    } catch (cause) {
      throw unusablePort(options.port, cause);
    }
  }

  get url(): string {
    return `http://${HOST}:${this.#server.port}/${this.#options.token}/`;
  }

  /** Sends to each viewer what it gets next. */
  send(): void {
    for (const socket of this.#sockets) this.#sendTo(socket);
  }

  /** Ends the connections, after what has been sent, and stops listening. Resolves after `limitMs` at the latest. */
  async close(limitMs: number): Promise<void> {
    const end = performance.now() + limitMs;
    for (const socket of this.#sockets) socket.close(1_000, "the job has ended");
    while (this.#sockets.size > 0 && performance.now() < end) await Bun.sleep(5);
    await this.#server.stop(true);
  }

  #answer(request: Request, server: Bun.Server<Viewer>): Response | undefined {
    const { pathname } = new URL(request.url);
    const [, token = "", ...rest] = pathname.split("/");
    // A page of another site can make its own name point to this address, but not have another name sent.
    const host = request.headers.get("host") ?? "";
    if (!this.#ownHosts().includes(host) || !isSameToken(token, this.#options.token) || rest.length !== 1) {
      return notFound();
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      return new Response("only GET and HEAD", { status: 405, headers: { ...headersFor(host), Allow: "GET, HEAD" } });
    }
    const [name = ""] = rest;
    if (name === "events") return this.#upgrade(request, server, host);
    const file = this.#options.files.get(name);
    if (file === undefined) return notFound();
    return new Response(file.body, { headers: { ...headersFor(host), "Content-Type": file.type } });
  }

  #upgrade(request: Request, server: Bun.Server<Viewer>, host: string): Response | undefined {
    const origin = request.headers.get("origin");
    if (origin !== null && origin !== `http://${host}`) return notFound();
    if (this.#sockets.size >= MAX_VIEWERS) {
      return new Response(`${MAX_VIEWERS} pages are open already`, { status: 503, headers: headersFor(host) });
    }
    if (server.upgrade(request, { data: { cursor: 0, omitted: 0, behindSince: undefined } })) return undefined;
    return new Response("WebSocket only", { status: 426, headers: { ...headersFor(host), Upgrade: "websocket" } });
  }

  #ownHosts(): readonly string[] {
    return [HOST, "localhost"].map((name) => `${name}:${this.#server.port}`);
  }

  #join(socket: Socket): void {
    this.#sockets.add(socket);
    this.#options.onViewers(this.#sockets.size);
  }

  #leave(socket: Socket): void {
    this.#sockets.delete(socket);
    this.#options.onViewers(this.#sockets.size);
  }

  #sendTo(socket: Socket): void {
    const { data } = socket;
    if (socket.getBufferedAmount() > 0) {
      data.behindSince ??= performance.now();
      if (performance.now() - data.behindSince > MAX_BEHIND_MS) socket.terminate();
      return;
    }
    data.behindSince = undefined;
    const message = this.#options.messageFor(data);
    if (message !== undefined) socket.send(message);
  }
}

/** The same whatever was wrong, so that it is no hint. */
function notFound(): Response {
  return new Response("not found", { status: 404, headers: { "Cache-Control": "no-store" } });
}

/** The page may use nothing but what this server sends. */
function headersFor(host: string): Record<string, string> {
  const own = `'self' ws://${host}`;
  return {
    "Content-Security-Policy": `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src ${own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
  };
}

function unusablePort(port: number, cause: unknown): DistError {
  const { code = "", message } = cause as NodeJS.ErrnoException;
  if (code === "EADDRINUSE") {
    return new DistError(
      `--dashboard: port ${port} of ${HOST} is in use. Give another one, or none (--dashboard) for a free one.`,
      { code: "PORT_IN_USE", op: "run", cause },
    );
  }
  return new DistError(`--dashboard: cannot listen on port ${port} of ${HOST}: ${message}`, {
    ...{ code: "DASHBOARD_FAILED", op: "run", cause },
  });
}
