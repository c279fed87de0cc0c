/**
 * The handshake before PyTorch's protocol where client and server share a secret. Both prove that they know it. The
 * secret itself is never sent, and nothing else is read first. Sizes are fixed, nonces are 32 random bytes:
 *
 *     client                                          server
 *     hello      c1 "c10dsec" clientNonce      (40) →
 *                                                   ← challenge  c2 serverNonce       (33)
 *     proof      HMAC("client")                (32) →
 *                                                   ← accept     c4 HMAC("server")    (33)
 *     VALIDATE, PING … as usual
 *
 * HMAC(role) is HMAC-SHA-256, keyed with the UTF-8 bytes of the secret, over the ASCII text `bun-c10d store v1 <role>`,
 * a zero byte, clientNonce and serverNonce. The role prevents a proof from being reflected to its sender, the nonces
 * prevent a replay. The server proves nothing until the client has.
 *
 * The server may answer with a refusal `c3 reason` (2) instead, and hang up: reason 1 for a wrong proof, 2 if it has no
 * secret, 3 if it is full. PyTorch's clients begin with the byte 00 of VALIDATE: a server with a secret answers with
 * `0d c1 a7 b7` in place of the reply to a PING, and hangs up. PyTorch's servers ignore a hello (libuv) or hang up
 * (legacy).
 */
import { DistNetworkError, DistStoreError } from "../../../errors/index.ts";
import { nonceBytes, proofBytes, type StoreSecret } from "../store-secret.ts";
import type { InputBuffer } from "./input-buffer.ts";
import type { OutputBuffer } from "./output-buffer.ts";
import { QueryType } from "./protocol.ts";
import { badReply, incomplete, type ReplyReader } from "./reply.ts";

/** The server's answer to PyTorch's first bytes, which is read as the reply to a PING. No process id has this value. */
export const secretRequiredAnswer = 0xb7a7_c10d;
/** The same from a server that is full. */
export const serverFullMark = 0xb7a9_c10d;

const hello = Uint8Array.from([0xc1, ...Buffer.from("c10dsec")]);
const type = { CHALLENGE: 0xc2, REFUSAL: 0xc3, ACCEPT: 0xc4 } as const;
const reason = { WRONG_PROOF: 1, NO_SECRET: 2, FULL: 3 } as const;

/** Error codes of refusals after which a client need not try again. */
export const refusalCodes = ["SECRET_REQUIRED", "SECRET_MISMATCH", "SECRET_UNSUPPORTED"] as const;

/** The server as errors name it. */
export interface ServerName {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/** What the client's part needs of its connection. */
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

/** The state of the server's part: after `done`, PyTorch's protocol begins. */
export type Gate = "done" | "more";

/** The server's part for one connection; without a secret it only refuses clients that have one. */
export class ServerHandshake {
  readonly #secret: StoreSecret | undefined;
  #nonces: { readonly client: Uint8Array; readonly server: Uint8Array } | undefined;
  #done = false;

  constructor(secret: StoreSecret | undefined) {
    this.#secret = secret;
  }

  /**
   * Reads what was received and answers it.
   * @throws DistStoreError `SECRET_REQUIRED`, `SECRET_MISMATCH`, `SECRET_UNSUPPORTED`: the output then has the refusal,
   * after which the connection must be closed; `PROTOCOL_VIOLATION`.
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
      throw refusal("SECRET_MISMATCH", "the client has a different secret (C10D_STORE_SECRET)");
    }
    output.u8(type.ACCEPT);
    output.bytes(this.#secret.proof("server", client, server));
    this.#done = true;
    return "done";
  }

  #refuseOpen(first: number, output: OutputBuffer): DistStoreError {
    if (first !== QueryType.VALIDATE) return refusal("PROTOCOL_VIOLATION", "the first byte is not that of a client");
    output.u32(secretRequiredAnswer);
    return refusal(
      "SECRET_REQUIRED",
      "the client speaks PyTorch's open protocol, but this store requires its secret (C10D_STORE_SECRET)",
    );
  }
}

/** The error of a client without a secret at a server that requires one. */
export function secretRequired({ name, host, port }: ServerName): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} requires a secret, and this client has none. Set C10D_STORE_SECRET to that of the server. (PyTorch programs do not support secrets: start the job with c10d run --torch-compat.)`,
    { code: "SECRET_REQUIRED", host, port },
  );
}

/** The error of a client with a secret at a server that has none, such as PyTorch's. */
export function secretUnsupported({ name, host, port }: ServerName): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} has no secret and speaks PyTorch's open protocol, but this client has a secret. Unset C10D_STORE_SECRET here (or pass secret: null), or set it for the server, too.`,
    { code: "SECRET_UNSUPPORTED", host, port },
  );
}

/** What a full server answers before it hangs up. */
export function serverFullAnswer(secret: StoreSecret | undefined): Uint8Array {
  if (secret !== undefined) return Uint8Array.of(type.REFUSAL, reason.FULL);
  const answer = new Uint8Array(4);
  new DataView(answer.buffer).setUint32(0, serverFullMark, true);
  return answer;
}

/** The error of a client that a full server has refused; the next attempt may succeed. */
export function serverFull({ name, host, port }: ServerName): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} is full: it has as many clients as the limit of open files of its process, or its maxConnections, allows. Raise that limit there (ulimit -n), or use fewer clients`,
    { code: "SERVER_FULL", host, port },
  );
}

function mismatch({ name, host, port }: ServerName, what: string): DistNetworkError {
  return new DistNetworkError(
    `the store server at ${name} ${what}. Set C10D_STORE_SECRET to the same text on both sides.`,
    { code: "SECRET_MISMATCH", host, port },
  );
}

/** Reads a frame of the server, which is its type and `length` bytes. Throws if it is a refusal. */
function frameReader(expected: number, length: number, server: ServerName): ReplyReader<Uint8Array> {
  return (input) => {
    const first = input.peek();
    if (first === type.REFUSAL) {
      if (input.length < 2) return incomplete;
      const why = input.bytes(2)[1];
      if (why === reason.NO_SECRET) throw secretUnsupported(server);
      if (why === reason.FULL) throw serverFull(server);
      throw mismatch(server, "has a different secret than this client and refused it");
    }
    if (first !== expected) throw badReply(`byte ${first} in the handshake`);
    return input.length < 1 + length ? incomplete : input.bytes(1 + length).subarray(1);
  };
}

function refusal(code: string, what: string): DistStoreError {
  return new DistStoreError(`store handshake: ${what}`, { code });
}
