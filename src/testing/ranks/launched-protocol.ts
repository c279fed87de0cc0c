import type { RankMessage } from "./rank-protocol.ts";

/** What a rank that a launcher started sends over its socket. */
export type LaunchedMessage = RankMessage | { readonly kind: "hello"; readonly rank: number; readonly pid: number };

const HEADER_BYTES = 4;

/** Bytes with their length in front. */
export function encodeFrame(payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  new DataView(frame.buffer).setUint32(0, payload.length, true);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** Finds the frames in a stream. */
export class FrameReader {
  #chunks: Uint8Array[] = [];
  #size = 0;
  /** How many bytes have to arrive before there is something to do. */
  #wanted = HEADER_BYTES;
  readonly #onFrame: (payload: Uint8Array) => void;

  constructor(onFrame: (payload: Uint8Array) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(new Uint8Array(chunk));
    this.#size += chunk.length;
    if (this.#size < this.#wanted) return;
    let bytes = Buffer.concat(this.#chunks);
    for (;;) {
      this.#wanted = HEADER_BYTES;
      if (bytes.length < HEADER_BYTES) break;
      this.#wanted += bytes.readUInt32LE();
      if (bytes.length < this.#wanted) break;
      this.#onFrame(new Uint8Array(bytes.subarray(HEADER_BYTES, this.#wanted)));
      bytes = bytes.subarray(this.#wanted);
    }
    this.#chunks = [bytes];
    this.#size = bytes.length;
  }
}
