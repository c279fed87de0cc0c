import { type BackendContext, type DistError, DistNetworkError, Inbox } from "bun-c10d";

/** Close codes: of a rank that leaves in good order, and of one that has failed. */
const [LEFT, FAILED] = [1000, 4000];

/** Bytes between ranks, by tag, in order. Every rank serves WebSockets and connects to all ranks, including itself. */
export class Mesh {
  static async connect(context: BackendContext, host = "127.0.0.1"): Promise<Mesh> {
    const { rank, size, store } = context;
    const limits = { timeout: context.timeoutMs };
    const get = async (key: string) => new TextDecoder().decode(await store.get(key, limits));
    if (rank === 0) await store.set("secret", crypto.randomUUID(), limits);
    const secret = await get("secret");
    const mesh = new Mesh(size, host, secret);
    try {
      await store.set(`address/${rank}`, `ws://${host}:${mesh.#server.port}`, limits);
      for (const peer of mesh.ranks) await mesh.#dial(`${await get(`address/${peer}`)}/${rank}?${secret}`, context);
      await store.barrier("connected", size, limits); // no rank may leave before the last has joined
      return mesh;
    } catch (error) {
      mesh.close();
      throw error;
    }
  }

  readonly ranks: readonly number[];
  readonly #server: Bun.Server<number>;
  readonly #sockets: WebSocket[] = [];
  /** Received bytes, by rank and tag. */
  readonly inbox = new Inbox<Uint8Array>();

  private constructor(size: number, hostname: string, secret: string) {
    this.ranks = Array.from({ length: size }, (_, rank) => rank);
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
        idleTimeout: 0,
        message: ({ data: peer }, message) => this.#deliver(peer, Buffer.from(message)),
        close: ({ data: peer }, code, text) => this.#lose(peer, code, text),
      },
    });
  }

  async #dial(address: string, { clock, timeoutMs }: BackendContext): Promise<void> {
    const socket = new WebSocket(address);
    this.#sockets.push(socket);
    using _limit = clock.schedule(timeoutMs, () => socket.close());
    await new Promise<void>((resolve, reject) => {
      socket.onopen = () => resolve();
      socket.onclose = () => reject(new DistNetworkError(`${new URL(address).origin} cannot be reached`));
    });
  }

  /** Sends bytes, which the caller may reuse when this returns. */
  send(peers: readonly number[], tag: string, bytes: Uint8Array): void {
    const message = Buffer.concat([Buffer.from(`${tag}\n`), bytes]);
    for (const peer of peers) this.#sockets[peer]?.send(message);
  }

  /** Disconnects, in good order or because of a failure, of which all others are then notified. */
  close(failure?: DistError): void {
    this.inbox.end(this.ranks, failure ?? new DistNetworkError("the group is closed"));
    const [code, text] = failure ? [FAILED, `has failed: ${brief(failure)}`] : [LEFT, "has left the group"];
    for (const socket of this.#sockets) socket.close(code, text);
    void this.#server.stop(true);
  }

  #deliver(peer: number, message: Buffer): void {
    const end = message.indexOf("\n");
    this.inbox.deliver(peer, message.toString("utf8", 0, end), message.subarray(end + 1));
  }

  /** A rank that left in good order may have sent its part before; otherwise no op in flight can complete. */
  #lose(peer: number, code: number, text: string): void {
    const error = new DistNetworkError(`rank ${peer} ${text || "is lost"}`, { peers: [peer], code: "PEER_LOST" });
    this.inbox.end(code === LEFT ? [peer] : this.ranks, error);
  }
}

/** The message of an error without what has been added after a semicolon: a WebSocket closes with 123 bytes at most. */
function brief({ message }: DistError): string {
  const [head = ""] = message.split("; ");
  return head.length <= 100 ? head : `${head.slice(0, head.lastIndexOf(" ", 100))} ...`;
}
