/** Values from this size on are sent from where they are instead of being copied. */
const largeValue = 16 * 1024;
const firstBlock = 1024;

/** The part of a socket that is written to. */
export interface ByteSink {
  /** Takes some of the bytes and returns how many; less than 0 when it is closed. */
  write(bytes: Uint8Array): number;
}

/** Frames on their way out. Bun's sockets take what fits and forget the rest, so it stays here until it was taken. */
export class OutputBuffer {
  /** Full parts, to be sent before the block. */
  #parts: Uint8Array[] = [];
  #partsBytes = 0;
  #block = new Uint8Array(firstBlock);
  #view = new DataView(this.#block.buffer);
  #start = 0;
  #end = 0;
  #taken = 0;

  /** Bytes that wait to be taken. */
  get length(): number {
    return this.#partsBytes + this.#end - this.#start;
  }

  /** All bytes ever put in; a position in the stream. */
  get position(): number {
    return this.#taken + this.length;
  }

  /** All bytes ever taken by the sink. */
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

  i64(value: bigint): void {
    const at = this.#reserve(8);
    this.#view.setBigInt64(at, value, true);
  }

  /** A copy of the bytes, without a length. */
  bytes(value: Uint8Array): void {
    const at = this.#reserve(value.length);
    this.#block.set(value, at);
  }

  /** A length and a copy of the bytes. */
  copy(value: Uint8Array): void {
    this.u64(value.length);
    const at = this.#reserve(value.length);
    this.#block.set(value, at);
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
    this.#string(text, Buffer.byteLength(text), "utf8");
  }

  /** A length and the text, one byte for each character. */
  latin1(text: string): void {
    this.#string(text, text.length, "latin1");
  }

  /** Gives the sink what it takes; whether everything is out. */
  flush(sink: ByteSink): boolean {
    while (this.#parts.length > 0) {
      const part = this.#parts[0];
      if (part === undefined) break;
      const sent = Math.max(sink.write(part), 0);
      this.#taken += sent;
      this.#partsBytes -= sent;
      if (sent < part.length) {
        this.#parts[0] = part.subarray(sent);
        return false;
      }
      this.#parts.shift();
    }
    if (this.#end > this.#start) {
      const sent = Math.max(sink.write(this.#block.subarray(this.#start, this.#end)), 0);
      this.#taken += sent;
      this.#start += sent;
      if (this.#start < this.#end) return false;
    }
    this.#start = 0;
    this.#end = 0;
    if (this.#block.length > 64 * 1024) this.#replaceBlock(firstBlock);
    return true;
  }

  #string(text: string, length: number, encoding: "utf8" | "latin1"): void {
    this.u64(length);
    const at = this.#reserve(length);
    Buffer.from(this.#block.buffer, at, length).write(text, encoding);
  }

  #reserve(length: number): number {
    const at = this.#end;
    if (at + length <= this.#block.length) {
      this.#end = at + length;
      return at;
    }
    const pending = this.#block.subarray(this.#start, this.#end);
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

  /** Moves the block's content to the parts; the room behind it is used further. */
  #seal(): void {
    if (this.#end === this.#start) return;
    this.#parts.push(this.#block.subarray(this.#start, this.#end));
    this.#partsBytes += this.#end - this.#start;
    this.#replaceBlock(firstBlock);
    this.#start = 0;
    this.#end = 0;
  }

  #replaceBlock(length: number): void {
    this.#block = new Uint8Array(length);
    this.#view = new DataView(this.#block.buffer);
  }
}
