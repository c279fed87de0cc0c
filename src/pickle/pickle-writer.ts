import { describe, InvalidArgumentError } from "../errors/index.ts";
import { Opcode } from "./opcode.ts";
import { PickleFloat, PickleTuple, type PickleValue } from "./pickle-value.ts";

const PROTOCOL = 2;
const MAX_DEPTH = 500;
const FIRST_BYTES = 4096;
/** Bytes of UTF-8 that one UTF-16 unit can become. */
const UTF8_BYTES_PER_UNIT = 3;

/**
 * Plain data as a pickle of protocol 2, which any Python 3 reads.
 * @throws InvalidArgumentError for other data: functions, class instances, more than 500 levels (or a cycle).
 */
export function pickle(value: PickleValue): Uint8Array<ArrayBuffer> {
  const writer = new PickleWriter();
  writer.write(value, 0);
  return writer.end();
}

class PickleWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  readonly #encoder = new TextEncoder();
  /** Number in the reader's memo of each string written: keys and file names recur. */
  readonly #strings = new Map<string, number>();

  constructor() {
    this.#byte(Opcode.PROTO);
    this.#byte(PROTOCOL);
  }

  end(): Uint8Array<ArrayBuffer> {
    this.#byte(Opcode.STOP);
    return this.#bytes.slice(0, this.#length);
  }

  write(value: PickleValue, depth: number): void {
    if (depth > MAX_DEPTH) {
      throw new InvalidArgumentError(`cannot pickle data of more than ${MAX_DEPTH} levels; does it contain itself?`, {
        argument: "value",
      });
    }
    if (value === null) this.#byte(Opcode.NONE);
    else if (typeof value === "boolean") this.#byte(value ? Opcode.NEWTRUE : Opcode.NEWFALSE);
    else if (typeof value === "string") this.#string(value);
    else if (typeof value === "bigint") this.#integer(value);
    else if (typeof value === "number") this.#number(value);
    else if (value instanceof PickleFloat) this.#float(value.value);
    else if (value instanceof PickleTuple) this.#tuple(value.items, depth);
    else if (Array.isArray(value)) this.#list(value, depth);
    else if (value instanceof Map) this.#dict(value, depth);
    else if (isPlain(value)) this.#dict(Object.entries(value), depth);
    else throw new InvalidArgumentError(`cannot pickle ${describe(value)}`, { argument: "value" });
  }

  #number(value: number): void {
    if (!Number.isInteger(value)) this.#float(value);
    else if (value < -0x80000000 || value > 0x7fffffff) this.#integer(BigInt(value));
    else if (value >= 0 && value <= 0xff) {
      this.#byte(Opcode.BININT1);
      this.#byte(value);
    } else {
      const at = this.#room(1 + Int32Array.BYTES_PER_ELEMENT);
      this.#bytes[at] = Opcode.BININT;
      this.#view.setInt32(at + 1, value, true);
    }
  }

  #float(value: number): void {
    const at = this.#room(1 + Float64Array.BYTES_PER_ELEMENT);
    this.#bytes[at] = Opcode.BINFLOAT;
    this.#view.setFloat64(at + 1, value, false);
  }

  /** In two's complement, little endian, in as many bytes as it needs. */
  #integer(value: bigint): void {
    const bits = (value < 0n ? -value : value).toString(2).length + 1;
    const count = Math.ceil(bits / 8);
    const isShort = count <= 0xff;
    const at = this.#room(isShort ? 2 + count : 5 + count);
    this.#bytes[at] = isShort ? Opcode.LONG1 : Opcode.LONG4;
    if (isShort) this.#bytes[at + 1] = count;
    else this.#view.setInt32(at + 1, count, true);
    const digits = BigInt.asUintN(count * 8, value)
      .toString(16)
      .padStart(count * 2, "0");
    for (let i = 0; i < count; i++) {
      const end = digits.length - 2 * i;
      this.#bytes[this.#length - count + i] = Number.parseInt(digits.slice(end - 2, end), 16);
    }
  }

  #string(value: string): void {
    const known = this.#strings.get(value);
    if (known !== undefined) {
      this.#memo(Opcode.BINGET, Opcode.LONG_BINGET, known);
      return;
    }
    const header = 1 + Uint32Array.BYTES_PER_ELEMENT;
    const at = this.#room(header + value.length * UTF8_BYTES_PER_UNIT);
    const { written } = this.#encoder.encodeInto(value, this.#bytes.subarray(at + header));
    this.#bytes[at] = Opcode.BINUNICODE;
    this.#view.setUint32(at + 1, written, true);
    this.#length = at + header + written;
    this.#memo(Opcode.BINPUT, Opcode.LONG_BINPUT, this.#strings.size);
    this.#strings.set(value, this.#strings.size);
  }

  #memo(short: number, long: number, number: number): void {
    if (number <= 0xff) {
      this.#byte(short);
      this.#byte(number);
      return;
    }
    const at = this.#room(1 + Uint32Array.BYTES_PER_ELEMENT);
    this.#bytes[at] = long;
    this.#view.setUint32(at + 1, number, true);
  }

  #tuple(items: readonly PickleValue[], depth: number): void {
    // Python reads () in this form too.
    this.#byte(Opcode.MARK);
    for (const item of items) this.write(item, depth + 1);
    this.#byte(Opcode.TUPLE);
  }

  #list(items: readonly PickleValue[], depth: number): void {
    this.#byte(Opcode.EMPTY_LIST);
    if (items.length === 0) return;
    this.#byte(Opcode.MARK);
    for (const item of items) this.write(item, depth + 1);
    this.#byte(Opcode.APPENDS);
  }

  #dict(entries: Iterable<readonly [string | number | bigint, PickleValue | undefined]>, depth: number): void {
    this.#byte(Opcode.EMPTY_DICT);
    this.#byte(Opcode.MARK);
    for (const [key, value] of entries) {
      if (value === undefined) continue;
      this.write(key, depth + 1);
      this.write(value, depth + 1);
    }
    this.#byte(Opcode.SETITEMS);
  }

  #byte(value: number): void {
    const at = this.#room(1);
    this.#bytes[at] = value;
  }

  /** Where the next `count` bytes go. */
  #room(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}

function isPlain(value: object): value is { readonly [key: string]: PickleValue | undefined } {
  if (typeof value !== "object") return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}
