import { type DistError, DistNetworkError, DistTimeoutError, type Store } from "bun-c10d";

interface MeshInit {
  readonly rank: number;
  readonly size: number;
  readonly store: Store;
  readonly timeoutMs: number;
  readonly host: string;
}

/** A WebSocket, whichever end of it this rank has. */
interface Socket {
  send(message: Uint8Array): unknown;
  close(code: number, reason: string): unknown;
}

/** Codes of a close: a rank that has done its part, and one that has failed. */
const [LEFT, FAILED] = [1000, 4000];

/** Bytes from each rank to each other one, by tag, in order. Every rank serves WebSockets; it dials the lower ranks. */
export class Mesh {
  static async connect({ rank, size, store, timeoutMs, host }: MeshInit): Promise<Mesh> {
    const limits = { timeout: timeoutMs };
    const mesh = new Mesh(rank, size, host, await secretOf(store, rank, limits));
    const timer = setTimeout(
      () => mesh.close(new DistTimeoutError(`rank ${rank}: not all ranks came within ${timeoutMs} ms`)),
      Math.min(timeoutMs, 2 ** 31 - 1),
    );
    try {
      await store.set(`address/${rank}`, `ws://${host}:${mesh.#server.port}`, limits);
      for (let peer = 0; peer < rank; peer++) {
        const address = new TextDecoder().decode(await store.get(`address/${peer}`, limits));
        mesh.#dial(peer, `${address}/${rank}?${mesh.#secret}`);
      }
      await mesh.#complete.promise;
      // Nobody may leave before the last has come.
      await store.barrier("connected", size, limits);
      return mesh;
    } catch (error) {
      mesh.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  readonly #rank: number;
  readonly #size: number;
  readonly #secret: string;
  readonly #server: Bun.Server<number>;
  readonly #complete = Promise.withResolvers<void>();
  readonly #sockets = new Map<number, Socket>();
  readonly #arrived = new Map<string, Uint8Array[]>();
  readonly #waiting = new Map<string, PromiseWithResolvers<Uint8Array>[]>();
  /** Why nothing comes from a rank any more. */
  readonly #lost = new Map<number, DistError>();

  private constructor(rank: number, size: number, hostname: string, secret: string) {
    this.#rank = rank;
    this.#size = size;
    this.#secret = secret;
    this.#complete.promise.catch(() => {});
    this.#server = Bun.serve<number>({
      hostname,
      port: 0,
      fetch(request, server) {
        const { pathname, search } = new URL(request.url);
        const known = search === `?${secret}` && server.upgrade(request, { data: Number(pathname.slice(1)) });
        return known ? undefined : new Response("ranks of this group only", { status: 403 });
      },
      websocket: {
        maxPayloadLength: 2 ** 30,
        backpressureLimit: 2 ** 30,
        idleTimeout: 0,
        open: (socket) => this.#join(socket.data, socket),
        message: (socket, message) => this.#deliver(socket.data, Buffer.from(message)),
        close: (socket, code, text) => this.#lose(socket.data, code, text),
      },
    });
    if (size === 1) this.#complete.resolve();
  }

  /** Sends bytes, which are the caller's again when this returns. */
  send(to: number, tag: string, bytes: Uint8Array): void {
    const message = Buffer.concat([Buffer.from(`${tag}\n`), bytes]);
    if (to === this.#rank) this.#deliver(to, message);
    else this.#sockets.get(to)?.send(message);
  }

  /** The next bytes of a rank with this tag. */
  take(from: number, tag: string): Promise<Uint8Array> {
    const key = `${from} ${tag}`;
    const arrived = this.#arrived.get(key);
    const bytes = arrived?.shift();
    if (arrived?.length === 0) this.#arrived.delete(key);
    if (bytes !== undefined) return Promise.resolve(bytes);
    const lost = this.#lost.get(from);
    if (lost !== undefined) return Promise.reject(lost);
    const waiter = Promise.withResolvers<Uint8Array>();
    this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), waiter]);
    return waiter.promise;
  }

  /** Hangs up: in peace, or because of a failure, of which all others are then notified. */
  close(failure?: DistError): void {
    const reason = failure ?? new DistNetworkError("the group is closed");
    for (let peer = 0; peer < this.#size; peer++) this.#end(peer, reason);
    for (const socket of this.#sockets.values()) socket.close(failure ? FAILED : LEFT, reason.message.slice(0, 100));
    void this.#server.stop();
  }

  #dial(peer: number, address: string): void {
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#join(peer, socket);
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => this.#deliver(peer, Buffer.from(data));
    socket.onclose = ({ code, reason }) => this.#lose(peer, code, reason);
  }

  #join(peer: number, socket: Socket): void {
    this.#sockets.set(peer, socket);
    if (this.#sockets.size === this.#size - 1) this.#complete.resolve();
  }

  #deliver(from: number, message: Buffer): void {
    const end = message.indexOf("\n");
    const key = `${from} ${message.toString("utf8", 0, end)}`;
    const bytes = message.subarray(end + 1);
    const waiting = this.#waiting.get(key);
    const waiter = waiting?.shift();
    if (waiting?.length === 0) this.#waiting.delete(key);
    if (waiter !== undefined) waiter.resolve(bytes);
    else this.#arrived.set(key, [...(this.#arrived.get(key) ?? []), bytes]);
  }

  /** A rank that has left in peace may have done its part before; otherwise nothing can come of what is under way. */
  #lose(peer: number, code: number, text: string): void {
    const how = code === LEFT ? "has left the group" : code === FAILED ? `has failed: ${text}` : "is lost";
    const error = new DistNetworkError(`rank ${peer} ${how}`, { backend: "sockets", peers: [peer], code: "PEER_LOST" });
    if (code === LEFT) this.#end(peer, error);
    else for (let rank = 0; rank < this.#size; rank++) this.#end(rank, error);
  }

  /** Nothing comes from this rank any more. */
  #end(peer: number, error: DistError): void {
    this.#complete.reject(error);
    if (!this.#lost.has(peer)) this.#lost.set(peer, error);
    for (const [key, waiters] of this.#waiting) {
      if (!key.startsWith(`${peer} `)) continue;
      this.#waiting.delete(key);
      for (const { reject } of waiters) reject(error);
    }
  }
}

/** What ranks of the group know and others do not. */
async function secretOf(store: Store, rank: number, limits: { readonly timeout: number }): Promise<string> {
  if (rank === 0) await store.set("secret", crypto.randomUUID(), limits);
  return new TextDecoder().decode(await store.get("secret", limits));
}
