const nothing = new Uint8Array(0);

/** Bytes that have come in and were not read yet. Reads want what {@link length} says is there. */
export class InputBuffer {
  #bytes: Uint8Array = nothing;
  #view: DataView = new DataView(nothing.buffer);
  #start = 0;
  #end = 0;
  /** Whether `#bytes` was made here, with room at its end, and is not somebody's chunk. */
  #owned = false;

  get length(): number {
    return this.#end - this.#start;
  }

  /** Adds a chunk; it is read in place where nothing is left over before it, so it must not change. */
  push(chunk: Uint8Array): void {
    if (this.length === 0) {
      this.#use(chunk, chunk.length, false);
      return;
    }
    const needed = this.length + chunk.length;
    if (!this.#owned || this.#end + chunk.length > this.#bytes.length) {
      const fits = this.#owned && needed <= this.#bytes.length;
      const target = fits ? this.#bytes : new Uint8Array(Math.max(needed, 2 * this.length, 1024));
      target.set(this.#bytes.subarray(this.#start, this.#end));
      this.#use(target, this.length, true);
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next byte, which stays. */
  peek(): number {
    return this.#view.getUint8(this.#start);
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** An unsigned 64-bit length; inexact beyond 2^53, which no length is. */
  u64(): number {
    const at = this.#take(8);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  /** A copy of the next `length` bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#take(length);
    return new Uint8Array(this.#bytes.subarray(at, at + length));
  }

  /** The next `length` bytes, one character each. */
  latin1(length: number): string {
    const at = this.#take(length);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + at, length).toString("latin1");
  }

  #take(length: number): number {
    const at = this.#start;
    this.#start += length;
    return at;
  }

  #use(bytes: Uint8Array, length: number, owned: boolean): void {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#start = 0;
    this.#end = length;
    this.#owned = owned;
  }
}
