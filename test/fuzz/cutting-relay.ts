import type { Random } from "./random.ts";

interface Link {
  /** The other end of the relayed connection. */
  peer: Bun.Socket<Link> | undefined;
  /** Bytes that could not be forwarded yet. */
  waiting: Uint8Array[];
  /** Number of bytes from this end that are still forwarded; then both ends are destroyed. */
  left: number;
}

/** A relay between clients and a server that destroys connections in the middle of a frame, in either direction. */
export class CuttingRelay implements Disposable {
  readonly port: number;
  /** Number of destroyed connections. */
  cuts = 0;
  readonly #listener: Bun.TCPSocketListener<Link>;

  /** `lifeBytes` is roughly how many bytes a connection forwards in each direction before it is destroyed. */
  constructor(serverPort: number, random: Random, lifeBytes: number) {
    const life = () => Math.floor(-Math.log(1 - random.next()) * lifeBytes) + 60;
    const handlers = {
      data: (socket: Bun.Socket<Link>, chunk: Uint8Array) => this.#pass(socket, chunk),
      drain: (socket: Bun.Socket<Link>) => flush(socket),
      close: (socket: Bun.Socket<Link>) => socket.data.peer?.terminate(),
      error: (socket: Bun.Socket<Link>) => socket.terminate(),
    };
    this.#listener = Bun.listen<Link>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        ...handlers,
        open: (client) => {
          client.data = { peer: undefined, waiting: [], left: life() };
          void Bun.connect<Link>({
            hostname: "127.0.0.1",
            port: serverPort,
            data: { peer: client, waiting: [], left: life() },
            socket: {
              ...handlers,
              open: (server) => {
                server.setNoDelay(true);
                client.data.peer = server;
                const early = client.data.waiting.splice(0);
                for (const chunk of early) write(server, chunk);
              },
            },
          }).catch(() => client.terminate());
          client.setNoDelay(true);
        },
      },
    });
    this.port = this.#listener.port;
  }

  [Symbol.dispose](): void {
    this.#listener.stop(true);
  }

  #pass(socket: Bun.Socket<Link>, chunk: Uint8Array): void {
    const link = socket.data;
    const taken = chunk.slice(0, Math.min(chunk.length, link.left));
    link.left -= taken.length;
    if (link.peer) write(link.peer, taken);
    else link.waiting.push(taken);
    if (link.left > 0) return;
    this.cuts++;
    // Half the time the forwarded bytes arrive, half the time a reset overtakes them.
    if (this.cuts % 2 === 0) link.peer?.end();
    else link.peer?.terminate();
    socket.terminate();
  }
}

function write(socket: Bun.Socket<Link>, chunk: Uint8Array): void {
  socket.data.waiting.push(chunk);
  flush(socket);
}

function flush(socket: Bun.Socket<Link>): void {
  const { waiting } = socket.data;
  for (let chunk = waiting.shift(); chunk !== undefined; chunk = waiting.shift()) {
    const sent = Math.max(socket.write(chunk), 0);
    if (sent === chunk.length) continue;
    waiting.unshift(chunk.subarray(sent));
    return;
  }
}
