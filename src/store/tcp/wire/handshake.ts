/**
 * What comes before PyTorch's protocol where client and server share a secret. Both prove that they know it; the secret
 * itself does not go over the wire, and nothing else is read before. Sizes are fixed, nonces are 32 random bytes:
 *
 *     client                                          server
 *     hello      c1 "c10dsec" clientNonce      (40) →
 *                                                   ← challenge  c2 serverNonce       (33)
 *     proof      HMAC("client")                (32) →
 *                                                   ← accept     c4 HMAC("server")    (33)
 *     VALIDATE, PING … as ever
 *
 * HMAC(role) is HMAC-SHA-256, keyed with the UTF-8 bytes of the secret, over the ASCII text `bun-c10d store v1 <role>`,
 * a zero byte, clientNonce and serverNonce. The role keeps a proof from being sent back to the one who made it, the
 * nonces from being used again. The server proves nothing to a client that has not.
 *
 * The server may answer with a refusal `c3 reason` (2) instead, and hang up: reason 1 for a wrong proof, 2 where it has
 * no secret, 3 where it has no room for more clients. PyTorch's clients begin with the byte 00 of VALIDATE: a server with a
 * secret answers with `0d c1 a7 b7`, where a PING would be answered, and hangs up. PyTorch's servers ignore a hello (libuv)
 * or hang up (legacy).
 */
import { DistNetworkError, DistStoreError } from "../../../errors/index.ts";
import { nonceBytes, proofBytes, type StoreSecret } from "../store-secret.ts";
import type { InputBuffer } from "./input-buffer.ts";
import type { OutputBuffer } from "./output-buffer.ts";
import { QueryType } from "./protocol.ts";
import { badReply, incomplete, type ReplyReader } from "./reply.ts";

/** The server's answer to PyTorch's first bytes, read as that to a PING; no process has this number. */
export const secretWanted = 0xb7a7_c10d;
/** The same from a server that is full. */
export const noRoom = 0xb7a9_c10d;

const hello = Uint8Array.from([0xc1, ...Buffer.from("c10dsec")]);
const type = { CHALLENGE: 0xc2, REFUSAL: 0xc3, ACCEPT: 0xc4 } as const;
const reason = { WRONG_PROOF: 1, NO_SECRET: 2, NO_ROOM: 3 } as const;

/** Codes of errors by which a client is told that it will never get in. */
export const refusalCodes = ["SECRET_REQUIRED", "SECRET_MISMATCH", "SECRET_UNSUPPORTED"] as const;

/** The server as errors name it. */
export interface ServerName {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/** What a client asks of its connection. */
export interface HandshakeChannel {
  readonly server: ServerName;
  request<T>(write: (output: OutputBuffer) => void, reader: ReplyReader<T>): Promise<T>;
}

/**
 * The client's part: resolves when both have proven that they know the secret.
 * @throws DistNetworkError `SECRET_MISMATCH`, `SECRET_UNSUPPORTED`, `PROTOCOL_VIOLATION`.
 */
export async function proveToServer(secret: StoreSecret, channel: HandshakeChannel): Promise<void> {
  const { server } = channel;
  const clientNonce = crypto.getRandomValues(new Uint8Array(nonceBytes));
  const serverNonce = await channel.request(
    (output) => {
      output.bytes(hello);
      output.bytes(clientNonce);
    },
    frameReader(type.CHALLENGE, nonceBytes, server),
  );
  const proof = secret.proof("client", clientNonce, serverNonce);
  const answer = await channel.request((output) => output.bytes(proof), frameReader(type.ACCEPT, proofBytes, server));
  if (!secret.verify(answer, "server", clientNonce, serverNonce)) {
    throw mismatch(server, "does not know the secret of this client, so nothing was sent to it");
  }
}

/** How far the server's part has come: `done` lets PyTorch's protocol begin. */
export type Gate = "done" | "more";

/** The server's part for one connection; without a secret it only turns away those who have one. */
export class ServerHandshake {
  readonly #secret: StoreSecret | undefined;
  #nonces: { readonly client: Uint8Array; readonly server: Uint8Array } | undefined;
  #done = false;

  constructor(secret: StoreSecret | undefined) {
    this.#secret = secret;
  }

  /**
   * Reads what has come in and answers it.
   * @throws DistStoreError `SECRET_REQUIRED`, `SECRET_MISMATCH`, `SECRET_UNSUPPORTED`: the output has the refusal, after
   * which the client is to be hung up on; `PROTOCOL_VIOLATION`.
   */
  proceed(input: InputBuffer, output: OutputBuffer): Gate {
    if (this.#done) return "done";
    if (input.length === 0) return "more";
    if (this.#nonces === undefined) {
      const first = input.peek();
      if (this.#secret === undefined && first !== hello[0]) {
        this.#done = true;
        return "done";
      }
      if (first !== hello[0]) throw this.#refuseOpen(first, output);
      if (input.length < hello.length + nonceBytes) return "more";
      if (Buffer.compare(input.bytes(hello.length), hello) !== 0) throw refusal("PROTOCOL_VIOLATION", "a bad hello");
      if (this.#secret === undefined) {
        output.bytes(Uint8Array.of(type.REFUSAL, reason.NO_SECRET));
        throw refusal("SECRET_UNSUPPORTED", "the client has a secret, this server has none (C10D_STORE_SECRET)");
      }
      this.#nonces = { client: input.bytes(nonceBytes), server: crypto.getRandomValues(new Uint8Array(nonceBytes)) };
      output.u8(type.CHALLENGE);
      output.bytes(this.#nonces.server);
    }
    if (input.length < proofBytes) return "more";
    const { client, server } = this.#nonces;
    const proof = input.bytes(proofBytes);
    if (!this.#secret?.verify(proof, "client", client, server)) {
      output.bytes(Uint8Array.of(type.REFUSAL, reason.WRONG_PROOF));
      throw refusal("SECRET_MISMATCH", "the client has another secret (C10D_STORE_SECRET)");
    }
    output.u8(type.ACCEPT);
    output.bytes(this.#secret.proof("server", client, server));
    this.#done = true;
    return "done";
  }

  #refuseOpen(first: number, output: OutputBuffer): DistStoreError {
    if (first !== QueryType.VALIDATE) return refusal("PROTOCOL_VIOLATION", "the first byte is not that of a client");
    output.u32(secretWanted);
    return refusal(
      "SECRET_REQUIRED",
      "the client speaks PyTorch's open protocol, but this store wants its secret (C10D_STORE_SECRET)",
    );
  }
}

/** The error of a client without a secret at a server that wants one. */
export function secretRequired({ name, host, port }: ServerName): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} wants a secret, and this client has none. Set C10D_STORE_SECRET to that of the server. (Programs that use PyTorch know no secret: start the job with c10d run --torch-compat.)`,
    { code: "SECRET_REQUIRED", host, port },
  );
}

/** The error of a client with a secret at a server that has none, such as PyTorch's. */
export function secretUnsupported({ name, host, port }: ServerName): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} has no secret, it speaks PyTorch's open protocol; but this client was given one. Unset C10D_STORE_SECRET here (or pass secret: null), or give it to the server, too.`,
    { code: "SECRET_UNSUPPORTED", host, port },
  );
}

/** What a full server answers before it hangs up. */
export function noRoomAnswer(secret: StoreSecret | undefined): Uint8Array {
  if (secret !== undefined) return Uint8Array.of(type.REFUSAL, reason.NO_ROOM);
  const answer = new Uint8Array(4);
  new DataView(answer.buffer).setUint32(0, noRoom, true);
  return answer;
}

/** The error of a client that a full server has refused; the next attempt may succeed. */
export function serverFull({ name, host, port }: ServerName): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} has no room for more clients: it has as many as the limit of open files of its process, or its maxConnections, allows. Raise that limit there (ulimit -n), or use fewer clients`,
    { code: "SERVER_FULL", host, port },
  );
}

function mismatch({ name, host, port }: ServerName, what: string): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} ${what}. Set C10D_STORE_SECRET to the same text on both sides.`,
    { code: "SECRET_MISMATCH", host, port },
  );
}

/** A frame of the server: its type and `length` bytes; or a refusal, which is thrown. */
function frameReader(expected: number, length: number, server: ServerName): ReplyReader<Uint8Array> {
  return (input) => {
    const first = input.peek();
    if (first === type.REFUSAL) {
      if (input.length < 2) return incomplete;
      const why = input.bytes(2)[1];
      if (why === reason.NO_SECRET) throw secretUnsupported(server);
      if (why === reason.NO_ROOM) throw serverFull(server);
      throw mismatch(server, "has another secret than this client and refused it");
    }
    if (first !== expected) throw badReply(`byte ${first} in the handshake`);
    return input.length < 1 + length ? incomplete : input.bytes(1 + length).subarray(1);
  };
}

function refusal(code: string, what: string): DistStoreError {
  return new DistStoreError(`store handshake: ${what}`, { code });
}
