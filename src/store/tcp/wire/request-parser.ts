import { DistStoreError } from "../../../errors/index.ts";
import type { InputBuffer } from "./input-buffer.ts";
import { limits, QueryType, validateMagic } from "./protocol.ts";

type Field = "magic" | "nonce" | "key" | "keys" | "pairs" | "value" | "expected" | "amount";

/** What follows the query type of each request. */
const layouts: Readonly<Record<QueryType, readonly Field[]>> = {
  [QueryType.VALIDATE]: ["magic"],
  [QueryType.SET]: ["key", "value"],
  [QueryType.COMPARE_SET]: ["key", "expected", "value"],
  [QueryType.GET]: ["key"],
  [QueryType.ADD]: ["key", "amount"],
  [QueryType.CHECK]: ["keys"],
  [QueryType.WAIT]: ["keys"],
  [QueryType.GETNUMKEYS]: [],
  [QueryType.DELETE_KEY]: ["key"],
  [QueryType.APPEND]: ["key", "value"],
  [QueryType.MULTI_GET]: ["keys"],
  [QueryType.MULTI_SET]: ["pairs"],
  [QueryType.CANCEL_WAIT]: [],
  [QueryType.PING]: ["nonce"],
  [QueryType.QUEUE_PUSH]: ["key", "value"],
  [QueryType.QUEUE_POP]: ["key"],
  [QueryType.QUEUE_LEN]: ["key"],
  [QueryType.LIST_KEYS]: [],
  [QueryType.BARRIER]: ["key", "amount"],
  [QueryType.BARRIER_RESUME]: [],
};

const empty = new Uint8Array(0);

/**
 * Reads requests from a stream that may be split anywhere. A field is read once, when it is complete. Sizes are checked
 * before memory is allocated for them. The properties are the fields of the current request.
 *
 * A MULTI_SET is read as one SET after the other, so that it needs no more memory than its largest value.
 */
export class RequestParser {
  type: QueryType = QueryType.VALIDATE;
  nonce = 0;
  key = "";
  keys: string[] = [];
  value: Uint8Array = empty;
  expected: Uint8Array = empty;
  amount: number | bigint = 0;

  readonly #input: InputBuffer;
  #validated = false;
  #layout: readonly Field[] | undefined;
  #field = 0;
  /** Length of the string that is being read, or -1 before it was read. */
  #length = -1;
  /** Elements of a list that are still to be read, or -1 before the count was read. */
  #left = -1;
  #keyBytes = 0;
  #pairKey: string | undefined;

  constructor(input: InputBuffer) {
    this.#input = input;
  }

  /** Bytes of the keys of the current request. */
  get keyBytes(): number {
    return this.#keyBytes;
  }

  /** Whether the connection has shown that it speaks this protocol. */
  get validated(): boolean {
    return this.#validated;
  }

  /**
   * Reads the next request into the properties; false when more bytes are needed.
   * @throws DistStoreError `PROTOCOL_VIOLATION`; the connection cannot be used any more.
   */
  next(): boolean {
    if (this.#layout === undefined && !this.#begin()) return false;
    const layout = this.#layout ?? [];
    for (; this.#field < layout.length; this.#field++) {
      const field = layout[this.#field];
      if (field === "pairs") return this.#pair();
      if (field === undefined || !this.#read(field)) return false;
    }
    this.#layout = undefined;
    return true;
  }

  #begin(): boolean {
    if (this.#input.length === 0) return false;
    const type = this.#input.u8();
    if (!this.#validated && type !== QueryType.VALIDATE) throw violation("the first byte is not that of VALIDATE");
    const layout: readonly Field[] | undefined = layouts[type as QueryType];
    if (layout === undefined) throw violation(`unknown query type ${type}`);
    this.type = type as QueryType;
    this.#layout = layout;
    this.#field = 0;
    this.#left = -1;
    this.#keyBytes = 0;
    return true;
  }

  #read(field: Exclude<Field, "pairs">): boolean {
    const input = this.#input;
    switch (field) {
      case "magic":
        if (input.length < 4) return false;
        if (input.u32() !== validateMagic) throw violation("VALIDATE carries the wrong number");
        this.#validated = true;
        return true;
      case "nonce":
        if (input.length < 4) return false;
        this.nonce = input.u32();
        return true;
      case "amount":
        if (input.length < 8) return false;
        this.amount = input.safeI64() ?? input.i64();
        return true;
      case "key": {
        const key = this.#key();
        if (key === undefined) return false;
        this.key = key;
        return true;
      }
      case "value": {
        const value = this.#value();
        if (value === undefined) return false;
        this.value = value;
        return true;
      }
      case "expected": {
        const value = this.#value();
        if (value === undefined) return false;
        this.expected = value;
        return true;
      }
      case "keys":
        if (this.#left < 0) {
          if (!this.#count()) return false;
          this.keys = [];
        }
        for (; this.#left > 0; this.#left--) {
          const key = this.#key();
          if (key === undefined) return false;
          this.keys.push(key);
        }
        return true;
    }
  }

  /** The next pair of a MULTI_SET, as a SET; an empty MULTI_SET is skipped. */
  #pair(): boolean {
    if (this.#left < 0 && !this.#count()) return false;
    if (this.#left === 0) {
      this.#layout = undefined;
      return this.next();
    }
    this.#pairKey ??= this.#key();
    if (this.#pairKey === undefined) return false;
    const value = this.#value();
    if (value === undefined) return false;
    this.type = QueryType.SET;
    this.key = this.#pairKey;
    this.value = value;
    this.#pairKey = undefined;
    this.#keyBytes = 0;
    if (--this.#left === 0) this.#layout = undefined;
    return true;
  }

  #count(): boolean {
    if (this.#input.length < 8) return false;
    const count = this.#input.u64();
    if (count > limits.keys) throw violation(`too many keys in a request: ${count}, max ${limits.keys}`);
    this.#left = count;
    return true;
  }

  #key(): string | undefined {
    if (!this.#complete("key", limits.keyBytes)) return undefined;
    this.#keyBytes += this.#length;
    if (this.#keyBytes > limits.allKeyBytes) {
      throw violation(`the keys of a request have more than ${limits.allKeyBytes} bytes together`);
    }
    const key = this.#input.latin1(this.#length);
    this.#length = -1;
    return key;
  }

  #value(): Uint8Array | undefined {
    if (!this.#complete("value", limits.valueBytes)) return undefined;
    const value = this.#input.bytes(this.#length);
    this.#length = -1;
    return value;
  }

  /** Whether a string is complete; its length is then in `#length`. */
  #complete(what: string, max: number): boolean {
    if (this.#length < 0) {
      if (this.#input.length < 8) return false;
      const length = this.#input.u64();
      if (length > max) throw violation(`a ${what} of ${length} bytes, max ${max}`);
      this.#length = length;
    }
    return this.#input.length >= this.#length;
  }
}

function violation(what: string): DistStoreError {
  return new DistStoreError(`store protocol: ${what}`, { code: "PROTOCOL_VIOLATION" });
}
