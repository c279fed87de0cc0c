import type { Server, ServerWebSocket } from "bun";

/** A message as it travels: a header of four 32-bit integers, then the bytes. */
export interface Message {
  readonly from: number;
  readonly to: number;
  /** Tells what the tag counts; {@link LEFT} says that the sender is gone. */
  readonly channel: number;
  readonly tag: number;
  readonly bytes: Uint8Array;
}

export const LEFT = -1;

/** How a rank sends, whether the hub is in its process or not. */
export interface Link {
  send(message: Message): void;
  close(): void;
}

export function encode({ from, to, channel, tag, bytes }: Message): Buffer {
  return Buffer.concat([Buffer.from(Int32Array.of(from, to, channel, tag).buffer), bytes]);
}

export function decode(data: Buffer): Message {
  const [from, to, channel, tag] = [0, 4, 8, 12].map((at) => data.readInt32LE(at)) as [number, number, number, number];
  return { from, to, channel, tag, bytes: data.subarray(16) };
}

/** Passes messages on between rank 0, in whose process it is, and the WebSockets of the others, until all have left. */
export class Hub implements Link {
  readonly #sockets = new Map<number, ServerWebSocket<number>>();
  readonly #server: Server<number>;
  readonly #everybodyCame = Promise.withResolvers<void>();
  #closed = false;

  constructor(
    size: number,
    private readonly toRankZero: (message: Message) => void,
  ) {
    this.#server = Bun.serve<number>({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request, server) => {
        const rank = Number(new URL(request.url).searchParams.get("rank"));
        return server.upgrade(request, { data: rank }) ? undefined : new Response("ranks only", { status: 400 });
      },
      websocket: {
        maxPayloadLength: 2 ** 30,
        backpressureLimit: 2 ** 30,
        idleTimeout: 0,
        open: (socket) => {
          this.#sockets.set(socket.data, socket);
          if (this.#sockets.size === size - 1) this.#everybodyCame.resolve();
        },
        message: (_, data) => this.send(decode(Buffer.from(data))),
        close: ({ data: rank }) => {
          this.#sockets.delete(rank);
          this.#announce(rank);
          this.#endIfDeserted();
        },
      },
    });
    if (size === 1) this.#everybodyCame.resolve();
  }

  get port(): number {
    return this.#server.port ?? 0;
  }

  get everybodyCame(): Promise<void> {
    return this.#everybodyCame.promise;
  }

  send(message: Message): void {
    if (message.to === 0) this.toRankZero(message);
    else this.#sockets.get(message.to)?.send(encode(message));
  }

  /** Rank 0 leaves; messages between the others still pass. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#announce(0);
    this.#endIfDeserted();
  }

  #announce(rank: number): void {
    for (const to of [0, ...this.#sockets.keys()]) {
      if (to !== rank) this.send({ from: rank, to, channel: LEFT, tag: 0, bytes: new Uint8Array(0) });
    }
  }

  #endIfDeserted(): void {
    if (this.#closed && this.#sockets.size === 0) void this.#server.stop();
  }
}

/** The link of the other ranks. */
export async function dial(port: number, rank: number, onMessage: (message: Message) => void): Promise<Link> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/?rank=${rank}`);
  socket.binaryType = "arraybuffer";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.onopen = () => resolve();
  socket.onerror = () => reject(new Error(`rank ${rank} cannot reach the hub on port ${port}`));
  socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => onMessage(decode(Buffer.from(data)));
  // Without the hub, everybody is out of reach.
  socket.onclose = () => onMessage({ from: 0, to: rank, channel: LEFT, tag: 0, bytes: new Uint8Array(0) });
  await promise;
  return { send: (message) => void socket.send(encode(message)), close: () => socket.close() };
}
