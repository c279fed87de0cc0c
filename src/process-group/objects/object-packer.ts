import { isArrayBuffer, isDate, isMap, isSet } from "node:util/types";
import { Encoder, ExtData } from "@msgpack/msgpack";
import { describe } from "../../errors/index.ts";
import { isDetached, memoryOf, type TensorStorage } from "../../tensor/index.ts";
import { Kind, MAX_DEPTH, typedArrays } from "./object-format.ts";

/** Longest list that is checked for extra properties; results of regular expressions are shorter. */
const SHORT_LIST = 32;

const encoder = new TextEncoder();
const nothing = new Uint8Array();
const undefinedValue = new ExtData(Kind.Undefined, nothing);
const negativeZero = new ExtData(Kind.NegativeZero, nothing);
const arrayTypes = new Map(typedArrays.map(({ prototype }, type) => [prototype, type]));

/** The object exceeds the limit of bytes, as detected before it is encoded. */
export class TooLarge extends RangeError {}

/**
 * Encodes one object as MessagePack, with extensions for what that lacks. What would arrive as something else is
 * refused before it reaches the library.
 */
export class ObjectPacker {
  readonly #maxBytes: number;
  /** Minimum number of bytes that the values visited so far will take. Shared objects are sent each time. */
  #taken = 0;
  readonly #encoder = new Encoder({
    extensionCodec: {
      tryToEncode: (object) => (object instanceof ExtData ? object : null),
      decode: () => undefined,
    },
    maxDepth: MAX_DEPTH + 2,
  });

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Throws {@link TooLarge}, TypeError or RangeError for what cannot be sent. */
  pack(object: unknown): Uint8Array<ArrayBuffer> {
    this.#take(1);
    return this.#encoder.encode(this.#portable(object, 0));
  }

  /** The value itself if the library can encode it with everything in it, else a replacement. */
  #portable(value: unknown, depth: number): unknown {
    switch (typeof value) {
      case "number":
        return Object.is(value, -0) ? negativeZero : value;
      case "string":
        return this.#text(value);
      case "boolean":
        return value;
      case "undefined":
        return undefinedValue;
      case "bigint":
        return new ExtData(Kind.BigInt, encoder.encode(value.toString(16)));
      case "object":
        return value === null ? null : this.#object(value, depth + 1);
      default:
        throw new TypeError(`${describe(value)} is not plain data`);
    }
  }

  #text(text: string): string | ExtData {
    this.#take(text.length);
    if (text.isWellFormed()) return text;
    const units = Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
    return new ExtData(Kind.Text, new Uint8Array(units.buffer));
  }

  #object(object: object, depth: number): unknown {
    if (depth > MAX_DEPTH) throw new RangeError(`nested more than ${MAX_DEPTH} deep, or in a circle`);
    switch (Object.getPrototypeOf(object)) {
      case Object.prototype:
        return this.#properties(object, depth);
      case null:
        return this.#nested(Kind.NullPrototype, this.#properties(object, depth));
      case Array.prototype:
        if (Array.isArray(object)) return this.#list(object, depth);
        break;
      case Map.prototype:
        if (isMap(object)) return this.#nested(Kind.Map, this.#entries([...object].flat(1), object, depth));
        break;
      case Set.prototype:
        if (isSet(object)) return this.#nested(Kind.Set, this.#entries([...object], object, depth));
        break;
      case Date.prototype:
        if (isDate(object)) return new ExtData(Kind.Date, timeOf(object));
        break;
      case ArrayBuffer.prototype:
        if (isArrayBuffer(object)) return new ExtData(Kind.ArrayBuffer, this.#bytesOf(object));
        break;
    }
    if (ArrayBuffer.isView(object)) return new ExtData(Kind.TypedArray, this.#elements(object));
    throw new TypeError(`${describe(object)} is not plain data`);
  }

  #properties(object: object, depth: number): object {
    const keys = Object.keys(object);
    requireNoOthers(object, keys.length);
    this.#take(2 * keys.length);
    const values = object as Record<string, unknown>;
    // Getters are read once, so that what was checked is what is sent.
    const copy: Record<string, unknown> = {};
    for (const key of keys) {
      if (key === "__proto__") throw new TypeError("a property has the key __proto__");
      if (!key.isWellFormed()) throw new TypeError("the key of a property is not well-formed text");
      this.#take(key.length);
      copy[key] = this.#portable(values[key], depth);
    }
    return copy;
  }

  #list(list: readonly unknown[], depth: number): readonly unknown[] {
    const { length } = list;
    if (length <= SHORT_LIST) requireNoOthers(list, length + 1);
    this.#take(length);
    // Getters among the elements are read once, like those of an object.
    const copy: unknown[] = [];
    for (let i = 0; i < length; i++) {
      const value = list[i];
      if (value === undefined && !(i in list)) throw new TypeError(`a list has no element ${i} of ${length}`);
      // Most long lists are of numbers.
      copy.push(typeof value === "number" && value !== 0 ? value : this.#portable(value, depth));
    }
    return copy;
  }

  #entries(values: readonly unknown[], of: object, depth: number): readonly unknown[] {
    requireNoOthers(of, 0);
    this.#take(values.length);
    return values.map((value) => this.#portable(value, depth));
  }

  #nested(kind: Kind, content: unknown): ExtData {
    return new ExtData(kind, this.#encoder.encode(content));
  }

  #bytesOf(buffer: ArrayBuffer): Uint8Array<ArrayBuffer> {
    if (buffer.detached) throw new TypeError("an ArrayBuffer is detached (it was transferred or posted elsewhere)");
    requireNoOthers(buffer, 0);
    this.#take(buffer.byteLength);
    return new Uint8Array(buffer);
  }

  #elements(view: ArrayBufferView): Uint8Array<ArrayBuffer> {
    const type = arrayTypes.get(Object.getPrototypeOf(view));
    // Not its own properties, which can claim anything.
    const range = memoryOf(view);
    if (type === undefined || range === undefined) throw new TypeError(`${describe(view)} is not plain data`);
    const { buffer, byteOffset, byteLength } = range;
    if (byteLength === 0 && "keys" in view && isDetached(view as TensorStorage)) {
      throw new TypeError("the ArrayBuffer of a TypedArray is detached (it was transferred or posted elsewhere)");
    }
    this.#take(byteLength);
    const bytes = new Uint8Array(byteLength + 1);
    bytes[0] = type;
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), 1);
    return bytes;
  }

  #take(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken > this.#maxBytes) throw new TooLarge();
  }
}

function timeOf(date: Date): Uint8Array<ArrayBuffer> {
  requireNoOthers(date, 0);
  return new Uint8Array(Float64Array.of(date.getTime()).buffer);
}

/** Throws if an object has properties that would not be sent. */
function requireNoOthers(object: object, sent: number): void {
  if (Reflect.ownKeys(object).length <= sent) return;
  throw new TypeError(
    `${describe(object)} has properties that would be lost: keyed by symbols, not enumerable, or beside its elements`,
  );
}
