/** Values of this size or more are sent in place instead of being copied. */
const largeValue = 16 * 1024;
const firstBlock = 1024;
const fullBlock = 64 * 1024;
/** Below this length a loop is faster than a call into native code. */
const shortBytes = 64;

/** The part of a socket that is written to. */
export interface ByteSink {
  /** Takes some of `length` bytes from `offset` on, and returns how many; less than 0 when it is closed. */
  write(bytes: Uint8Array, offset: number, length: number): number;
}

/** Frames to send. Bun's sockets take what fits and drop the rest, so bytes stay here until they were taken. */
export class OutputBuffer {
  /** Full parts, to be sent before the block. */
  #parts: Uint8Array[] = [];
  #partsBytes = 0;
  #block = Buffer.from(new ArrayBuffer(firstBlock));
  #view = new DataView(this.#block.buffer);
  #start = 0;
  #end = 0;
  #taken = 0;

  /** Bytes that were not taken yet. */
  get length(): number {
    return this.#partsBytes + this.#end - this.#start;
  }

  /** The number of bytes written so far: a position in the stream. */
  get position(): number {
    return this.#taken + this.length;
  }

  /** The number of bytes that the sink has taken so far. */
  get taken(): number {
    return this.#taken;
  }

  u8(value: number): void {
    const at = this.#reserve(1);
    this.#view.setUint8(at, value);
  }

  u32(value: number): void {
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
  }

  u64(value: number): void {
    const at = this.#reserve(8);
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
  }

  i64(value: bigint | number): void {
    const at = this.#reserve(8);
    if (typeof value === "bigint") {
      this.#view.setBigInt64(at, value, true);
      return;
    }
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
  }

  /** A copy of the bytes, without a length. */
  bytes(value: Uint8Array): void {
    const at = this.#reserve(value.length);
    this.#block.set(value, at);
  }

  /** A length and a copy of the bytes. */
  copy(value: Uint8Array): void {
    const { length } = value;
    this.u64(length);
    const at = this.#reserve(length);
    if (length > shortBytes) this.#block.set(value, at);
    else for (let i = 0; i < length; i++) this.#block[at + i] = value[i] ?? 0;
  }

  /** A length and the bytes, which must not change any more. */
  keep(value: Uint8Array): void {
    if (value.length < largeValue) {
      this.copy(value);
      return;
    }
    this.u64(value.length);
    this.#seal();
    this.#parts.push(value);
    this.#partsBytes += value.length;
  }

  /** A length and the text as UTF-8. */
  text(text: string): void {
    if (text.length <= shortBytes && this.#ascii("", text)) return;
    const length = Buffer.byteLength(text);
    this.u64(length);
    const at = this.#reserve(length);
    this.#block.write(text, at, length, "utf8");
  }

  /** A length and the text as UTF-8, or a copy of the bytes. */
  value(value: Uint8Array | string): void {
    if (typeof value === "string") this.text(value);
    else this.copy(value);
  }

  /** A length and "/" and the text as UTF-8: the raw form of a user's key. */
  key(key: string): void {
    if (key.length >= shortBytes || !this.#ascii("/", key)) this.text(`/${key}`);
  }

  /** A length and the text, one byte for each character. */
  latin1(text: string): void {
    const { length } = text;
    this.u64(length);
    const at = this.#reserve(length);
    this.#block.write(text, at, length, "latin1");
  }

  /** Removes everything and returns a copy. */
  drain(): Uint8Array {
    const parts: Uint8Array[] = [];
    this.flush({
      write: (bytes, offset, length) => {
        parts.push(new Uint8Array(bytes.subarray(offset, offset + length)));
        return length;
      },
    });
    return Buffer.concat(parts);
  }

  /** Writes to the sink what it takes; returns whether that is everything. */
  flush(sink: ByteSink): boolean {
    while (this.#parts.length > 0) {
      const part = this.#parts[0];
      if (part === undefined) break;
      const sent = Math.max(sink.write(part, 0, part.length), 0);
      this.#taken += sent;
      this.#partsBytes -= sent;
      if (sent < part.length) {
        this.#parts[0] = part.subarray(sent);
        return false;
      }
      this.#parts.shift();
    }
    if (this.#end > this.#start) {
      const sent = Math.max(sink.write(this.#block, this.#start, this.#end - this.#start), 0);
      this.#taken += sent;
      this.#start += sent;
      if (this.#start < this.#end) return false;
    }
    this.#start = 0;
    this.#end = 0;
    if (this.#block.length > fullBlock) this.#replaceBlock(firstBlock);
    return true;
  }

  /** A length and the ASCII text `prefix` + `text`; writes nothing and returns false if there are other characters. */
  #ascii(prefix: "" | "/", text: string): boolean {
    const { length } = text;
    const start = this.#reserve(8 + prefix.length + length);
    this.#view.setUint32(start, prefix.length + length, true);
    this.#view.setUint32(start + 4, 0, true);
    let at = start + 8;
    if (prefix !== "") this.#block[at++] = 0x2f;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) {
        this.#end = start;
        return false;
      }
      this.#block[at++] = code;
    }
    return true;
  }

  #reserve(length: number): number {
    const at = this.#end;
    if (at + length <= this.#block.length) {
      this.#end = at + length;
      return at;
    }
    const pending = this.#block.subarray(this.#start, this.#end);
    if (pending.length >= fullBlock) {
      // A new block costs less than a copy of this one into a larger one.
      this.#seal(Math.max(fullBlock, length));
      this.#end = length;
      return 0;
    }
    const needed = pending.length + length;
    if (2 * needed <= this.#block.length) {
      this.#block.copyWithin(0, this.#start, this.#end);
    } else {
      this.#replaceBlock(Math.max(2 * this.#block.length, needed));
      this.#block.set(pending);
    }
    this.#start = 0;
    this.#end = needed;
    return pending.length;
  }

  /** Moves the block's content to the parts and starts a new block. */
  #seal(nextBlock = firstBlock): void {
    if (this.#end === this.#start) return;
    this.#parts.push(this.#block.subarray(this.#start, this.#end));
    this.#partsBytes += this.#end - this.#start;
    this.#replaceBlock(nextBlock);
    this.#start = 0;
    this.#end = 0;
  }

  #replaceBlock(length: number): void {
    this.#block = Buffer.from(new ArrayBuffer(length));
    this.#view = new DataView(this.#block.buffer);
  }
}
