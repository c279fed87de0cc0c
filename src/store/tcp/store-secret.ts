import { type Environment, environmentText, processEnvironment } from "../../environment/index.ts";
import { InvalidArgumentError } from "../../errors/index.ts";

/** Which end of a connection made a proof. It is part of the proof, so that no proof is valid for the other end. */
export type Role = "client" | "server";

export const nonceBytes = 32;
export const proofBytes = 32;

/** A secret that clients and server of a store share. They prove that they know it without revealing it. */
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

  /** Whether a proof is right, in constant time. */
  verify(proof: Uint8Array, role: Role, clientNonce: Uint8Array, serverNonce: Uint8Array): boolean {
    const expected = this.proof(role, clientNonce, serverNonce);
    return proof.length === expected.length && crypto.timingSafeEqual(proof, expected);
  }
}

let warned = false;

/**
 * Whether torchrun started this process. It sets this variable for each of its workers, with `--log-dir /dev/null` to
 * "".
 */
export function isUnderTorchrun(env: Environment = processEnvironment()): boolean {
  // `c10d run`, which sets other variables as torchrun does, never sets it.
  return env.TORCHELASTIC_ERROR_FILE !== undefined;
}

/**
 * The secret of the environment, `C10D_STORE_SECRET`; without it null, which stands for PyTorch's open protocol. Also
 * null under torchrun, whose store speaks nothing else; a warning says so if a secret is set.
 */
export function environmentSecret(env: Environment = processEnvironment()): string | null {
  const secret = environmentText("C10D_STORE_SECRET", env);
  if (secret === undefined) return null;
  if (!isUnderTorchrun(env)) return secret;
  if (!warned) {
    warned = true;
    process.emitWarning(
      "C10D_STORE_SECRET is not used under torchrun: the store speaks PyTorch's open protocol, so anyone who can reach its port can read and write it.",
      { code: "C10D_OPEN_STORE" },
    );
  }
  return null;
}

/**
 * The secret of an option `secret`: undefined takes the environment's, null is PyTorch's open protocol.
 * @throws InvalidArgumentError unless it is a non-empty string.
 */
export function chosenSecret(option: string | null | undefined): string | null {
  if (option === undefined) return environmentSecret();
  if (option === null || (typeof option === "string" && option !== "")) return option;
  throw new InvalidArgumentError("secret must be a non-empty string, or null for PyTorch's open protocol", {
    argument: "secret",
  });
}

/** A new secret of 256 random bits. */
export function newSecret(): string {
  return crypto.getRandomValues(new Uint8Array(32)).toHex();
}
