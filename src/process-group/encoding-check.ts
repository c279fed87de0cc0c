import { isNesting, Kind, MAX_DEPTH } from "./object-format.ts";

/** Objects that a message may be made of beside one for every four bytes of its limit. */
const FREE_OBJECTS = 65_536;

/** What a value of each kind costs of {@link FREE_OBJECTS}; a plain object or list costs 1, about 64 bytes of memory. */
const costs: { readonly [kind: number]: number } = {
  [Kind.TypedArray]: 8,
  [Kind.ArrayBuffer]: 8,
  [Kind.Map]: 4,
  [Kind.Set]: 4,
  [Kind.BigInt]: 1,
  [Kind.Date]: 1,
  [Kind.Text]: 1,
  [Kind.NullPrototype]: 1,
  [Kind.Undefined]: 0,
  [Kind.NegativeZero]: 0,
};

/** First byte of a short text as long as `__proto__`. */
const PROTO_LENGTH = 0xa9;

/** Bytes of a value by its first one, itself included; 0 where that does not tell. */
const lengths = Uint8Array.from({ length: 256 }, (_, first) => {
  if (first <= 0x7f || first >= 0xe0 || first === 0xc0 || first === 0xc2 || first === 0xc3) return 1;
  if (first >= 0xa0 && first <= 0xbf) return 1 + (first & 0x1f);
  if (first === 0xca || first === 0xcb) return first === 0xca ? 5 : 9;
  return first >= 0xcc && first <= 0xd3 ? 1 + 2 ** ((first - 0xcc) % 4) : 0;
});

/** A list, an object or an extension whose values are being read. */
interface Frame {
  /** Values still to come; each key of an object is one too. */
  left: number;
  /** Where the bytes of the innermost extension end. */
  readonly end: number;
  readonly form: Form;
  /** What an extension has to hold. */
  readonly content?: "list" | "object";
}

type Form = "list" | "object" | "extension";

const inWords = { list: "a list", object: "an object" };

/** What a first byte opens. */
function formOf(first: number): Form | undefined {
  if ((first >= 0x90 && first <= 0x9f) || first === 0xdc || first === 0xdd) return "list";
  return (first >= 0x80 && first <= 0x8f) || first === 0xde || first === 0xdf ? "object" : undefined;
}

/**
 * Walks encoded bytes before anything is made of them: no length that they announce is believed unless the bytes for it
 * are there, nesting is bounded, and so is the memory that the objects take. Linear, and without recursion.
 */
class EncodingCheck {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #frames: Frame[];
  #frame: Frame;
  #depth = 0;
  #at = 0;
  #objects: number;

  constructor(bytes: Uint8Array, maxBytes: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#frame = { left: 1, end: bytes.byteLength, form: "extension" };
    this.#frames = [this.#frame];
    this.#objects = FREE_OBJECTS + maxBytes / 4;
  }

  /** @throws RangeError that says what is wrong. */
  run(): void {
    for (;;) {
      this.#skipPlain();
      if (this.#frame.left > 0) {
        this.#frame.left--;
        this.#value();
      } else if (this.#close()) return;
    }
  }

  /** Passes the values whose length their first byte tells, of which most data consists; stops before any other. */
  #skipPlain(): void {
    const bytes = this.#bytes;
    const { end, form, content } = this.#frame;
    if (content !== undefined) return;
    const isObject = form === "object";
    let { left } = this.#frame;
    let at = this.#at;
    while (left > 0 && at < end) {
      const first = bytes[at] ?? 0;
      const next = at + (lengths[first] ?? 0);
      if (next === at || next > end) break;
      if (isObject && left % 2 === 0 && (first < 0xa0 || first > 0xbf || first === PROTO_LENGTH)) break;
      at = next;
      left--;
    }
    this.#at = at;
    this.#frame.left = left;
  }

  /** Leaves a frame; true if it was the last. */
  #close(): boolean {
    if (this.#frame.form !== "extension") this.#depth--;
    else if (this.#at !== this.#frame.end) throw new RangeError(`${this.#frame.end - this.#at} bytes are left over`);
    this.#frames.pop();
    const outer = this.#frames.at(-1);
    if (outer === undefined) return true;
    this.#frame = outer;
    return false;
  }

  #value(): void {
    const first = this.#unsigned(1);
    const { content } = this.#frame;
    if (content !== undefined && formOf(first) !== content) throw new RangeError(`${inWords[content]} is missing`);
    const length = lengths[first] ?? 0;
    if (this.#frame.form === "object" && this.#frame.left % 2 === 1) this.#key(first);
    else if (length > 0) this.#skip(length - 1);
    else if (first <= 0x8f) this.#open("object", 2 * (first & 0x0f));
    else if (first <= 0x9f) this.#open("list", first & 0x0f);
    else this.#longForm(first);
  }

  #key(first: number): void {
    const length =
      first >= 0xa0 && first <= 0xbf
        ? first & 0x1f
        : first >= 0xd9 && first <= 0xdb
          ? this.#unsigned(2 ** (first - 0xd9))
          : undefined;
    if (length === undefined) throw new RangeError("the key of a property is no text");
    this.#skip(length);
    if (length === 9 && this.#text(length) === "__proto__") throw new RangeError("a property has the key __proto__");
  }

  /** What tells its length by further bytes. */
  #longForm(first: number): void {
    if (first >= 0xc7 && first <= 0xc9) this.#extension(this.#unsigned(2 ** (first - 0xc7)));
    else if (first >= 0xd4 && first <= 0xd8) this.#extension(2 ** (first - 0xd4));
    else if (first >= 0xd9 && first <= 0xdb) this.#skip(this.#unsigned(2 ** (first - 0xd9)));
    else if (first === 0xdc || first === 0xdd) this.#open("list", this.#unsigned(first === 0xdc ? 2 : 4));
    else if (first === 0xde || first === 0xdf) this.#open("object", 2 * this.#unsigned(first === 0xde ? 2 : 4));
    else throw new RangeError(`there is no type 0x${first.toString(16)}`);
  }

  #open(form: "list" | "object", values: number): void {
    const { end } = this.#frame;
    if (values > end - this.#at) {
      throw new RangeError(`${inWords[form]} announces ${values} values where ${end - this.#at} bytes are left`);
    }
    this.#depth++;
    if (this.#depth > MAX_DEPTH) throw new RangeError(`nested more than ${MAX_DEPTH} deep`);
    this.#spend(1);
    this.#enter({ left: values, end, form });
  }

  #extension(length: number): void {
    const kind = this.#unsigned(1);
    const cost = costs[kind];
    if (cost === undefined) throw new RangeError(`there is no extension ${kind}`);
    this.#spend(cost);
    this.#skip(length);
    if (!isNesting(kind)) return;
    const end = this.#at;
    this.#at -= length;
    this.#enter({ left: 1, end, form: "extension", content: kind === Kind.NullPrototype ? "object" : "list" });
  }

  #enter(frame: Frame): void {
    this.#frames.push(frame);
    this.#frame = frame;
  }

  #spend(cost: number): void {
    this.#objects -= cost;
    if (this.#objects < 0)
      throw new RangeError("more objects and lists than a message of its limit (maxBytes) may hold");
  }

  #skip(length: number): void {
    const left = this.#frame.end - this.#at;
    if (length > left) throw new RangeError(`${length} bytes are announced where ${left} are left`);
    this.#at += length;
  }

  #unsigned(size: number): number {
    const at = this.#at;
    this.#skip(size);
    if (size === 1) return this.#view.getUint8(at);
    return size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  /** The text that ends here. */
  #text(length: number): string {
    let text = "";
    for (let i = this.#at - length; i < this.#at; i++) text += String.fromCharCode(this.#view.getUint8(i));
    return text;
  }
}

/**
 * Checks that bytes can be decoded at a bounded cost.
 * @param maxBytes Limit of the encoding of one object.
 * @throws RangeError that says what is wrong.
 */
export function checkEncoding(bytes: Uint8Array, maxBytes: number): void {
  new EncodingCheck(bytes, maxBytes).run();
}
