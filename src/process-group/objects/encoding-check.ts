import { isNesting, Kind, MAX_DEPTH } from "./object-format.ts";

/** A decoded message may take this many times its size limit in memory, and so many bytes more. */
const MEMORY_FACTOR = 8;
const FREE_BYTES = 4 * 2 ** 20;

// Memory of decoded values in bytes, as measured with Bun 1.4 for the worst of each kind, garbage of decoding included.
const PLAIN_OBJECT = 64;
const LIST = 64;
const TEXT = 72;
/** A slot in a list; in the list that a Map or a Set is built from, with the entry there. */
const SLOT = 8;
const MAP_SLOT = 48;
const SET_SLOT = 104;
/** A property that makes an order of names not seen before: the engine keeps a description of each order. */
const NEW_PROPERTY = 384;
/** The same in an object with so many properties that the engine stores it as a dictionary. */
const DICTIONARY_PROPERTY = 136;
const DICTIONARY_SIZE = 64;
/** A property of a known name that exceeds an object's inline capacity. */
const FURTHER_PROPERTY = 16;
const INLINE_PROPERTIES = 6;
/** If a property's name is a number of at most so many digits, the engine has a slot for each smaller number, too. */
const NUMBER_DIGITS = 3;
const NUMBER_PLACE = 10;

/** Cost of a value of each kind, without its content. */
const costs: { readonly [kind: number]: number } = {
  [Kind.TypedArray]: 512,
  [Kind.ArrayBuffer]: 512,
  [Kind.Map]: 256,
  [Kind.Set]: 256,
  [Kind.BigInt]: 80,
  [Kind.Date]: 168,
  [Kind.Text]: 96,
  [Kind.NullPrototype]: 256,
  [Kind.Undefined]: 0,
  [Kind.NegativeZero]: 0,
};

/** Cost of a value by its first byte, without its slot: a text of more than one character; 0 for others. */
const textCosts = Uint8Array.from({ length: 256 }, (_, first) =>
  first > 0xa1 && first <= 0xbf ? TEXT + 2 * (first & 0x1f) : 0,
);

/** Orders of property names seen so far, as hashes that are valid for one check only. */
const seenOrders = new Int32Array(2 ** 16);
let lastSeed = (Math.random() * 2 ** 32) | 0;

/** First byte of a short text as long as `__proto__`. */
const PROTO_LENGTH = 0xa9;

/** Length of a value in bytes, the first one included, by its first byte; 0 if that does not determine it. */
const lengths = Uint8Array.from({ length: 256 }, (_, first) => {
  if (first <= 0x7f || first >= 0xe0 || first === 0xc0 || first === 0xc2 || first === 0xc3) return 1;
  if (first >= 0xa0 && first <= 0xbf) return 1 + (first & 0x1f);
  if (first === 0xca || first === 0xcb) return first === 0xca ? 5 : 9;
  return first >= 0xcc && first <= 0xd3 ? 1 + 2 ** ((first - 0xcc) % 4) : 0;
});

/** The decoded bytes would take more memory than their limit allows. */
export class TooMuchMemory extends RangeError {}

/** A list, an object or an extension whose values are being read. */
interface Frame {
  /** Values left to read; each key of an object counts as one. */
  left: number;
  /** Where the bytes of the innermost extension end. */
  readonly end: number;
  readonly form: Form;
  /** What an extension must contain. */
  readonly content: "list" | "object" | undefined;
  /** Cost of the slot of each value. */
  readonly slot: number;
  /** For an object: how many names were read, and a hash of them in their order. */
  names: number;
  order: number;
  /** For an object: how many numbers it has slots for. */
  places: number;
}

type Form = "list" | "object" | "extension";

const formNames = { list: "a list", object: "an object" };

/** The form that a first byte opens. */
function formOf(first: number): Form | undefined {
  if ((first >= 0x90 && first <= 0x9f) || first === 0xdc || first === 0xdd) return "list";
  return (first >= 0x80 && first <= 0x8f) || first === 0xde || first === 0xdf ? "object" : undefined;
}

/**
 * Checks encoded bytes before anything is decoded: each announced length must be covered by the bytes that are there,
 * and nesting and the memory of the objects are bounded. Linear, without recursion.
 */
class EncodingCheck {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #frames: Frame[];
  #frame: Frame;
  #depth = 0;
  #at = 0;
  #memory: number;
  readonly #seed: number;

  constructor(bytes: Uint8Array, maxBytes: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#seed = lastSeed = Math.imul(lastSeed + 1, 0x9e3779b1);
    this.#frame = this.#frameOf(1, bytes.byteLength, "extension", SLOT);
    this.#frames = [this.#frame];
    this.#memory = FREE_BYTES + MEMORY_FACTOR * maxBytes;
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

  /** Skips values whose first byte determines their length, as in most data; stops before any other. */
  #skipPlain(): void {
    const bytes = this.#bytes;
    const frame = this.#frame;
    const { end, form, content, slot } = frame;
    if (content !== undefined) return;
    const isObject = form === "object";
    let { left } = frame;
    let at = this.#at;
    let cost = slot * left;
    while (left > 0 && at < end) {
      const first = bytes[at] ?? 0;
      const next = at + (lengths[first] ?? 0);
      if (next === at || next > end) break;
      if (isObject && left % 2 === 0) {
        if (first < 0xa0 || first > 0xbf || first === PROTO_LENGTH) break;
        cost += this.#nameCost(frame, at + 1, next);
      } else {
        cost += textCosts[first] ?? 0;
      }
      at = next;
      left--;
    }
    this.#at = at;
    frame.left = left;
    this.#spend(cost - slot * left);
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
    const { content, slot } = this.#frame;
    this.#spend(slot + (textCosts[first] ?? 0));
    if (content !== undefined && formOf(first) !== content) throw new RangeError(`${formNames[content]} is missing`);
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
    if (length === undefined) throw new RangeError("the key of a property is not text");
    this.#skip(length);
    this.#spend(this.#nameCost(this.#frame, this.#at - length, this.#at));
    if (length === 9 && this.#text(length) === "__proto__") throw new RangeError("a property has the key __proto__");
  }

  /** A value whose length is in further bytes. */
  #longForm(first: number): void {
    if (first >= 0xc7 && first <= 0xc9) this.#extension(this.#unsigned(2 ** (first - 0xc7)));
    else if (first >= 0xd4 && first <= 0xd8) this.#extension(2 ** (first - 0xd4));
    else if (first >= 0xd9 && first <= 0xdb) this.#longText(this.#unsigned(2 ** (first - 0xd9)));
    else if (first === 0xdc || first === 0xdd) this.#open("list", this.#unsigned(first === 0xdc ? 2 : 4));
    else if (first === 0xde || first === 0xdf) this.#open("object", 2 * this.#unsigned(first === 0xde ? 2 : 4));
    else throw new RangeError(`there is no type 0x${first.toString(16)}`);
  }

  #longText(length: number): void {
    this.#skip(length);
    this.#spend(TEXT + 2 * length);
  }

  #open(form: "list" | "object", values: number): void {
    const { end, form: outer, slot } = this.#frame;
    if (values > end - this.#at) {
      throw new RangeError(`${formNames[form]} announces ${values} values where ${end - this.#at} bytes are left`);
    }
    this.#depth++;
    if (this.#depth > MAX_DEPTH) throw new RangeError(`nested more than ${MAX_DEPTH} deep`);
    this.#spend(form === "list" ? LIST : PLAIN_OBJECT);
    const inner = form === "object" ? 0 : outer === "extension" ? slot : SLOT;
    this.#enter(this.#frameOf(values, end, form, inner));
  }

  #extension(length: number): void {
    const kind = this.#unsigned(1);
    const cost = costs[kind];
    if (cost === undefined) throw new RangeError(`there is no extension ${kind}`);
    this.#skip(length);
    if (!isNesting(kind)) {
      this.#spend(cost + (kind === Kind.Text ? 2 : 1) * length);
      return;
    }
    this.#spend(cost);
    const end = this.#at;
    this.#at -= length;
    const slot = kind === Kind.Map ? MAP_SLOT : kind === Kind.Set ? SET_SLOT : SLOT;
    this.#enter(this.#frameOf(1, end, "extension", slot, kind === Kind.NullPrototype ? "object" : "list"));
  }

  #frameOf(left: number, end: number, form: Form, slot: number, content?: "list" | "object"): Frame {
    return { left, end, form, slot, content, names: 0, order: this.#seed, places: 0 };
  }

  /** The number that digits stand for; -1 if there are other characters. */
  #numberAt(start: number, end: number): number {
    let number = 0;
    for (let at = start; at < end; at++) {
      const digit = (this.#bytes[at] ?? 0) - 0x30;
      if (digit < 0 || digit > 9) return -1;
      number = 10 * number + digit;
    }
    return number;
  }

  /** Cost of the next property of an object, named by these bytes, without its value. */
  #nameCost(frame: Frame, start: number, end: number): number {
    const bytes = this.#bytes;
    if (end - start <= NUMBER_DIGITS && end > start) {
      const number = this.#numberAt(start, end);
      if (number >= frame.places) {
        this.#spend((number + 1 - frame.places) * NUMBER_PLACE);
        frame.places = number + 1;
      }
    }
    let order = frame.order ^ (end - start);
    for (let at = start; at < end; at++) order = Math.imul(order ^ (bytes[at] ?? 0), 0x01000193);
    order ^= order >>> 15;
    frame.order = order;
    frame.names++;
    const place = order & (seenOrders.length - 1);
    if (seenOrders[place] === order) return frame.names > INLINE_PROPERTIES ? FURTHER_PROPERTY : 0;
    seenOrders[place] = order;
    return 2 * (end - start) + (frame.names > DICTIONARY_SIZE ? DICTIONARY_PROPERTY : NEW_PROPERTY);
  }

  #enter(frame: Frame): void {
    this.#frames.push(frame);
    this.#frame = frame;
  }

  #spend(cost: number): void {
    this.#memory -= cost;
    if (this.#memory < 0) {
      throw new TooMuchMemory(`decoded, it would take more than ${MEMORY_FACTOR} times maxBytes of memory`);
    }
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
 * @param maxBytes Size limit of one encoded object.
 * @throws RangeError that says what is wrong.
 */
export function checkEncoding(bytes: Uint8Array, maxBytes: number): void {
  new EncodingCheck(bytes, maxBytes).run();
}
