import { describe, InvalidArgumentError } from "../errors/index.ts";

/** What a store takes as a value: bytes, or a text, which is stored as UTF-8. */
export type StoreValue = Uint8Array | string;

const encoder = new TextEncoder();
const typedArray = Object.getPrototypeOf(Uint8Array.prototype);
// The accessors themselves, since an object or a subclass may override the properties. They also recognise arrays of
// another realm, which `instanceof` does not.
const typeName = accessor("Symbol(Symbol.toStringTag)", typedArray, Symbol.toStringTag);
const lengthOf = accessor("length", typedArray, "length");
const bufferOf = accessor("buffer", typedArray, "buffer");

/** Whether it is a `Uint8Array`, of this realm or another. */
export function isBytes(value: unknown): value is Uint8Array {
  return typeName(value) === "Uint8Array";
}

/**
 * Checks a value of a caller and returns its number of bytes; for a text, the most that its UTF-8 can have.
 * @throws InvalidArgumentError unless it is a `Uint8Array` that is not detached, or a text.
 */
export function checkStoreValue(value: StoreValue): number {
  if (typeof value === "string") {
    if (value.isWellFormed()) return value.length * 3;
    throw new InvalidArgumentError("a store value is a text with a lone surrogate, which UTF-8 cannot encode", {
      argument: "value",
    });
  }
  if (!isBytes(value)) {
    throw new InvalidArgumentError(`a store value must be a Uint8Array or a string, got ${describe(value)}`, {
      argument: "value",
    });
  }
  const length = lengthOf(value) as number;
  if (length === 0 && isDetached(value)) {
    throw new InvalidArgumentError("a store value is a Uint8Array whose buffer was detached (transferred)", {
      argument: "value",
    });
  }
  return length;
}

/**
 * A copy of bytes that go into a store or out of it, without other references to it. `slice()` would not do, since that
 * of a Buffer is a view.
 * @throws InvalidArgumentError as {@link checkStoreValue}.
 */
export function ownBytes(value: StoreValue): Uint8Array<ArrayBuffer> {
  checkStoreValue(value);
  return typeof value === "string" ? encoder.encode(value) : new Uint8Array(value);
}

function isDetached(value: Uint8Array): boolean {
  const buffer = bufferOf(value) as ArrayBufferLike;
  return "detached" in buffer && buffer.detached === true;
}

function accessor(name: string, owner: object, key: PropertyKey): (of: unknown) => unknown {
  const get = Object.getOwnPropertyDescriptor(owner, key)?.get;
  if (get === undefined) throw new TypeError(`TypedArray has no ${name}`);
  return (of) => get.call(of);
}
