import { pickleError } from "./pickle-error.ts";

const NEWLINE = 0x0a;

/** Reads bytes in order; a length is checked against what is left before anything is allocated. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get position(): number {
    return this.#at;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  uint8(): number {
    return this.#bytes[this.#skip(1)] ?? 0;
  }

  uint16(): number {
    return this.#view.getUint16(this.#skip(2), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#skip(4), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }

  int64(): bigint {
    return this.#view.getBigInt64(this.#skip(8), true);
  }

  /** A length of 8 bytes. One past 2^53 is not exact, but more than there can be. */
  uint64(): number {
    return Number(this.#view.getBigUint64(this.#skip(8), true));
  }

  float64(): number {
    return this.#view.getFloat64(this.#skip(8), false);
  }

  /** A view of the next `count` bytes. */
  bytes(count: number): Uint8Array {
    const at = this.#skip(count);
    return this.#bytes.subarray(at, at + count);
  }

  utf8(count: number): string {
    return this.#utf8.decode(this.bytes(count));
  }

  /** Up to the next newline, which is skipped, each byte as the character of that code. */
  line(): string {
    const end = this.#bytes.indexOf(NEWLINE, this.#at);
    if (end === -1) throw pickleError(`a line that starts at byte ${this.#at} does not end`);
    const line = this.bytes(end - this.#at);
    this.#at++;
    return Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString("latin1");
  }

  #skip(count: number): number {
    if (count > this.left) {
      throw pickleError(
        `it is cut off: ${count} ${count === 1 ? "byte" : "bytes"} should follow at byte ${this.#at}, but ${this.left} do`,
      );
    }
    const at = this.#at;
    this.#at += count;
    return at;
  }
}
