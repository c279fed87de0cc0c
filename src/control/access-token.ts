/** 192 random bits in characters that a URL takes as they are. */
export function makeToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");
}
