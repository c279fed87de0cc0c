import { type Environment, environmentText, processEnvironment } from "../../environment/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";

/** Which end of a connection a proof is of; part of what is proven, so that no proof is good for the other end. */
export type Role = "client" | "server";

export const nonceBytes = 32;
export const proofBytes = 32;

/** A secret that clients and server of a store share. It proves that it is known and never shows itself. */
export class StoreSecret {
  readonly #key: Uint8Array;

  constructor(secret: string) {
    this.#key = new TextEncoder().encode(secret);
  }

  /** The proof of one end, for one connection: HMAC-SHA-256 over its role and the nonces of both ends. */
  proof(role: Role, clientNonce: Uint8Array, serverNonce: Uint8Array): Uint8Array {
    return new Bun.CryptoHasher("sha256", this.#key)
      .update(`bun-c10d store v1 ${role}\0`)
      .update(clientNonce)
      .update(serverNonce)
      .digest();
  }

  /** Whether a proof is right, in a time that does not tell how much of it is. */
  verify(proof: Uint8Array, role: Role, clientNonce: Uint8Array, serverNonce: Uint8Array): boolean {
    const expected = this.proof(role, clientNonce, serverNonce);
    return proof.length === expected.length && crypto.timingSafeEqual(proof, expected);
  }
}

let warned = false;

/**
 * The secret that the environment gives: `C10D_STORE_SECRET`, and null, which stands for PyTorch's open protocol,
 * without it. Also under torchrun, whose store speaks nothing else; a warning tells when that leaves a secret unused.
 */
export function environmentSecret(env: Environment = processEnvironment): string | null {
  const secret = environmentText("C10D_STORE_SECRET", env);
  if (secret === undefined) return null;
  // torchrun gives this to each of its workers; `c10d run`, which shares other variables with it, never does.
  if (env.TORCHELASTIC_ERROR_FILE === undefined) return secret;
  if (!warned) {
    warned = true;
    process.emitWarning(
      "C10D_STORE_SECRET is not used under torchrun: the store speaks PyTorch's open protocol, so whoever reaches its port can read and write it.",
      { code: "C10D_OPEN_STORE" },
    );
  }
  return null;
}

/**
 * The secret of an option `secret`: undefined takes the environment's, null is PyTorch's open protocol.
 * @throws InvalidArgumentError unless it is a text that is not empty.
 */
export function chosenSecret(option: string | null | undefined): string | null {
  if (option === undefined) return environmentSecret();
  if (option === null || (typeof option === "string" && option !== "")) return option;
  throw new InvalidArgumentError("secret must be a text that is not empty, or null for PyTorch's open protocol", {
    argument: "secret",
  });
}

/** A new secret of 256 random bits. */
export function mintSecret(): string {
  return crypto.getRandomValues(new Uint8Array(32)).toHex();
}
