import { timingSafeEqual } from "node:crypto";

/** A secret of 192 random bits that can be part of an address. */
export function newToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");
}

/** Whether two tokens are the same, in a time that does not depend on where they differ. */
export function isSameToken(a: string, b: string): boolean {
  return timingSafeEqual(digest(a), digest(b));
}

/** Of the same length for each text. */
function digest(text: string): Buffer {
  return new Bun.CryptoHasher("sha256").update(text).digest();
}
