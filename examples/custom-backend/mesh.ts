import { type BackendContext, type DistError, DistNetworkError } from "bun-c10d";

type Messages = Map<string, PromiseWithResolvers<Uint8Array>[]>;

/** Codes of a close: a rank that has done its part, and one that has failed. */
const [LEFT, FAILED] = [1000, 4000];

/** Bytes from rank to rank, by tag, in order. Every rank serves WebSockets and dials all ranks, itself too. */
export class Mesh {
  static async connect({ rank, size, store, timeoutMs }: BackendContext, host: string): Promise<Mesh> {
    const limits = { timeout: timeoutMs };
    const get = async (key: string) => new TextDecoder().decode(await store.get(key, limits));
    if (rank === 0) await store.set("secret", crypto.randomUUID(), limits);
    const secret = await get("secret");
    const mesh = new Mesh(size, host, secret);
    try {
      await store.set(`address/${rank}`, `ws://${host}:${mesh.#server.port}`, limits);
      for (const peer of mesh.ranks) await mesh.#dial(`${await get(`address/${peer}`)}/${rank}?${secret}`, timeoutMs);
      await store.barrier("connected", size, limits); // nobody may leave before the last has come
      return mesh;
    } catch (error) {
      mesh.close();
      throw error;
    }
  }

  readonly ranks: readonly number[];
  readonly #server: Bun.Server<number>;
  readonly #sockets: WebSocket[] = [];
  readonly #arrived: Messages = new Map();
  readonly #awaited: Messages = new Map();
  /** Why nothing comes from a rank any more. */
  readonly #ends = new Map<number, DistError>();

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

  #dial(address: string, timeoutMs: number): Promise<void> {
    const socket = new WebSocket(address);
    this.#sockets.push(socket);
    const timer = setTimeout(() => socket.close(), Math.min(timeoutMs, 2 ** 31 - 1));
    return new Promise<void>((resolve, reject) => {
      socket.onopen = () => resolve();
      socket.onclose = () => reject(new DistNetworkError(`${new URL(address).origin} cannot be reached`));
    }).finally(() => clearTimeout(timer));
  }

  /** Sends bytes, which are the caller's again when this returns. */
  send(peers: readonly number[], tag: string, bytes: Uint8Array): void {
    const message = Buffer.concat([Buffer.from(`${tag}\n`), bytes]);
    for (const peer of peers) this.#sockets[peer]?.send(message);
  }

  /** The next bytes of a rank with this tag. */
  take(peer: number, tag: string): Promise<Uint8Array> {
    const message = match(`${peer} ${tag}`, this.#arrived, this.#awaited);
    const end = this.#ends.get(peer);
    if (end !== undefined) message.reject(end); // which changes nothing for one that has arrived
    return message.promise;
  }

  /** Hangs up: in peace, or because of a failure, of which all others are then notified. */
  close(failure?: DistError): void {
    this.#end(this.ranks, failure ?? new DistNetworkError("the group is closed"));
    const [code, text] = failure ? [FAILED, `has failed: ${failure.message}`] : [LEFT, "has left the group"];
    for (const socket of this.#sockets) socket.close(code, text.slice(0, 100));
    void this.#server.stop(true);
  }

  #deliver(peer: number, message: Buffer): void {
    const end = message.indexOf("\n");
    const key = `${peer} ${message.toString("utf8", 0, end)}`;
    match(key, this.#awaited, this.#arrived).resolve(message.subarray(end + 1));
  }

  /** A rank that has left in peace may have done its part before; otherwise nothing can come of what is under way. */
  #lose(peer: number, code: number, text: string): void {
    const details = { backend: "sockets", peers: [peer], code: "PEER_LOST" };
    this.#end(code === LEFT ? [peer] : this.ranks, new DistNetworkError(`rank ${peer} ${text || "is lost"}`, details));
  }

  #end(peers: readonly number[], error: DistError): void {
    for (const peer of peers) {
      if (!this.#ends.has(peer)) this.#ends.set(peer, error);
      for (const [key, messages] of this.#awaited) {
        if (key.startsWith(`${peer} `)) for (const { reject } of messages) reject(error);
      }
    }
  }
}

/** The first message under a key that the other side has put there, or a new one for the other side. */
function match(key: string, theirs: Messages, ours: Messages): PromiseWithResolvers<Uint8Array> {
  const [message = Promise.withResolvers<Uint8Array>(), ...rest] = theirs.get(key) ?? [];
  if (theirs.has(key)) rest.length > 0 ? theirs.set(key, rest) : theirs.delete(key);
  else ours.set(key, [...(ours.get(key) ?? []), message]);
  return message;
}
