/** A Buffer with a method that its types lack. */
type SliceableBuffer = Buffer & { latin1Slice(start: number, end: number): string };

const nothing = Buffer.alloc(0) as SliceableBuffer;

/** Below this length a loop is faster than a call into native code. */
const shortBytes = 64;

/** Received bytes that were not read yet. A read must not ask for more than {@link length}. */
export class InputBuffer {
  #bytes = nothing;
  #start = 0;
  #end = 0;
  /** Whether `#bytes` was allocated here, with free space at its end, and is not a received chunk. */
  #owned = false;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Adds a chunk, which must not change: it is read in place if the buffer is empty. */
  push(chunk: Uint8Array): void {
    if (this.length === 0) {
      this.#use(chunk, chunk.length, false);
      return;
    }
    const needed = this.length + chunk.length;
    if (!this.#owned || this.#end + chunk.length > this.#bytes.length) {
      const fits = this.#owned && needed <= this.#bytes.length;
      const target = fits ? this.#bytes : Buffer.alloc(Math.max(needed, 2 * this.length, 1024));
      target.set(this.#bytes.subarray(this.#start, this.#end));
      this.#use(target, this.length, true);
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next byte, without removing it. */
  peek(): number {
    return this.#bytes[this.#start] ?? 0;
  }

  /** The number that {@link u64} returns next, without removing it. */
  peekU64(): number {
    return this.#u32(this.#start) + this.#u32(this.#start + 4) * 2 ** 32;
  }

  u8(): number {
    return this.#bytes[this.#start++] ?? 0;
  }

  u32(): number {
    return this.#u32(this.#take(4));
  }

  /** An unsigned 64-bit length; inexact beyond 2^53, which no length exceeds. */
  u64(): number {
    const value = this.peekU64();
    this.#start += 8;
    return value;
  }

  i64(): bigint {
    return this.#bytes.readBigInt64LE(this.#take(8));
  }

  /** A signed 64-bit integer as a number; undefined, without removing it, if a number cannot hold it exactly. */
  safeI64(): number | undefined {
    const value = this.#u32(this.#start) + (this.#u32(this.#start + 4) | 0) * 2 ** 32;
    if (!Number.isSafeInteger(value)) return undefined;
    this.#start += 8;
    return value;
  }

  /** A copy of the next `length` bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#take(length);
    const copy = new Uint8Array(length);
    if (length > shortBytes) copy.set(this.#bytes.subarray(at, at + length));
    else for (let i = 0; i < length; i++) copy[i] = this.#bytes[at + i] ?? 0;
    return copy;
  }

  /** The next `length` bytes, one character each. */
  latin1(length: number): string {
    const at = this.#take(length);
    return this.#bytes.latin1Slice(at, at + length);
  }

  #take(length: number): number {
    const at = this.#start;
    this.#start += length;
    return at;
  }

  // Faster than a DataView, since each chunk would need its own.
  #u32(at: number): number {
    const bytes = this.#bytes;
    const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16);
    return (low | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
  }

  #use(bytes: Uint8Array, length: number, owned: boolean): void {
    const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#bytes = buffer as SliceableBuffer;
    this.#start = 0;
    this.#end = length;
    this.#owned = owned;
  }
}
