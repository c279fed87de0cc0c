import type { RankMessage } from "./rank-protocol.ts";

/** What a rank that a launcher has started sends over its socket. */
export type LaunchedMessage = RankMessage | { readonly kind: "hello"; readonly rank: number; readonly pid: number };

const HEADER_BYTES = 4;

/** Bytes with their number before them. */
export function encodeFrame(payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  new DataView(frame.buffer).setUint32(0, payload.length, true);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** Finds the frames in a stream. */
export class FrameReader {
  #bytes = new Uint8Array();
  readonly #onFrame: (payload: Uint8Array) => void;

  constructor(onFrame: (payload: Uint8Array) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Uint8Array): void {
    const bytes = new Uint8Array(this.#bytes.length + chunk.length);
    bytes.set(this.#bytes);
    bytes.set(chunk, this.#bytes.length);
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const length = new DataView(bytes.buffer, at).getUint32(0, true);
      if (bytes.length - at - HEADER_BYTES < length) break;
      this.#onFrame(bytes.slice(at + HEADER_BYTES, at + HEADER_BYTES + length));
      at += HEADER_BYTES + length;
    }
    this.#bytes = bytes.slice(at);
  }
}
