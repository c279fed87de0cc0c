import { fromHex } from "./raw-connection.ts";

/** What a client has to send next, and what it is answered; hexadecimal text. */
export type Exchange = readonly [request: string, reply: string];

const handshakeBytes = 10;

/**
 * For tests of what the client sends: a server that knows one conversation, byte for byte, after a handshake in which
 * it returns the nonce as PyTorch's servers do. `violations` has what did not fit.
 */
export class ScriptedServer {
  readonly port: number;
  readonly violations: string[] = [];
  readonly #listener: Bun.TCPSocketListener<undefined>;
  readonly #script: readonly Exchange[];
  #step = 0;
  #pending = "";
  #greeted = false;

  constructor(script: readonly Exchange[]) {
    this.#script = script;
    this.#listener = Bun.listen<undefined>({
      hostname: "127.0.0.1",
      port: 0,
      socket: { data: (socket, chunk) => this.#take(socket, chunk) },
    });
    this.port = this.#listener.port;
  }

  /** Whether the whole conversation was held, and nothing more. */
  get done(): boolean {
    return this.#step === this.#script.length && this.#pending === "" && this.violations.length === 0;
  }

  close(): void {
    this.#listener.stop(true);
  }

  #take(socket: Bun.Socket<undefined>, chunk: Uint8Array): void {
    this.#pending += Buffer.from(chunk).toString("hex");
    if (!this.#greeted) {
      if (this.#pending.length < handshakeBytes * 2) return;
      if (!this.#pending.startsWith("00cef7853c0d")) this.violations.push(this.#pending);
      socket.write(fromHex(this.#pending.slice(12, 20)));
      this.#pending = this.#pending.slice(handshakeBytes * 2);
      this.#greeted = true;
    }
    while (this.#pending !== "") {
      const [request, reply] = this.#script[this.#step] ?? ["", ""];
      const expected = Buffer.from(fromHex(request)).toString("hex");
      if (this.#pending.length < expected.length) {
        if (!expected.startsWith(this.#pending)) this.violations.push(this.#pending);
        return;
      }
      if (expected === "" || !this.#pending.startsWith(expected)) {
        this.violations.push(this.#pending);
        return;
      }
      this.#pending = this.#pending.slice(expected.length);
      this.#step++;
      socket.write(fromHex(reply));
    }
  }
}
