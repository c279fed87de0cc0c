import { Decoder } from "@msgpack/msgpack";
import { DistBackendError, InvalidArgumentError, messageOf } from "../../errors/index.ts";
import { checkEncoding, TooMuchMemory } from "./encoding-check.ts";
import { Kind, typedArrays } from "./object-format.ts";
import { ObjectPacker, TooLarge } from "./object-packer.ts";

/**
 * Encodes an object as MessagePack, with the extension types of {@link Kind} only. An object that would arrive as
 * something else is refused.
 *
 * @param maxBytes Size limit of the encoded object.
 * @throws InvalidArgumentError (`OBJECT_NOT_SENDABLE`, `OBJECT_TOO_LARGE`).
 */
export function encodeObject(object: unknown, maxBytes: number): Uint8Array<ArrayBuffer> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new ObjectPacker(maxBytes).pack(object);
    // The same check as on the receivers, so that what is sent can be decoded.
    if (bytes.byteLength <= maxBytes) checkEncoding(bytes, maxBytes);
  } catch (cause) {
    if (cause instanceof TooLarge) throw tooLarge(`more than ${maxBytes}`, maxBytes);
    if (cause instanceof TooMuchMemory) {
      throw new InvalidArgumentError(
        `this object is too large: ${cause.message} (${maxBytes}); raise it on all ranks`,
        {
          code: "OBJECT_TOO_LARGE",
          cause,
        },
      );
    }
    throw new InvalidArgumentError(`this object cannot be sent: ${messageOf(cause)}`, {
      code: "OBJECT_NOT_SENDABLE",
      cause,
    });
  }
  if (bytes.byteLength > maxBytes) throw tooLarge(String(bytes.byteLength), maxBytes);
  return bytes;
}

/**
 * Decodes an object. Builds plain data only: no constructor or method of a sender's choice runs, and memory is bounded
 * by what the bytes can hold.
 *
 * @param rank The rank that sent the bytes.
 * @throws DistBackendError (`OBJECT_MALFORMED`) for bytes that are not an object of this codec.
 */
export function decodeObject(op: string, bytes: Uint8Array, rank: number, maxBytes: number): unknown {
  try {
    checkEncoding(bytes, maxBytes);
    return unpack(bytes);
  } catch (cause) {
    throw new DistBackendError(
      `${op}: what rank ${rank} sent is not an object of this library (${messageOf(cause)}); only Bun ranks can exchange objects, since PyTorch pickles them`,
      { code: "OBJECT_MALFORMED", op, peers: [rank], cause },
    );
  }
}

function tooLarge(bytes: string, maxBytes: number): InvalidArgumentError {
  return new InvalidArgumentError(
    `this object takes ${bytes} bytes, the limit is ${maxBytes}: raise maxBytes on all ranks`,
    { code: "OBJECT_TOO_LARGE" },
  );
}

const extensionCodec = { tryToEncode: () => null, decode: contentOf };

/** Decodes checked bytes; the check bounds the depth of this recursion. */
function unpack(bytes: Uint8Array): unknown {
  return new Decoder({ extensionCodec }).decode(bytes);
}

function contentOf(bytes: Uint8Array, kind: number): unknown {
  switch (kind) {
    case Kind.TypedArray:
      return typedArrayOf(bytes);
    case Kind.ArrayBuffer:
      return copyOf(bytes);
    case Kind.Map:
      return mapOf(listOf(unpack(bytes)));
    case Kind.Set:
      return new Set(listOf(unpack(bytes)));
    case Kind.BigInt:
      return bigintOf(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    case Kind.Date:
      return new Date(new Float64Array(copyOf(bytes))[0] ?? Number.NaN);
    case Kind.Undefined:
      return undefined;
    case Kind.NegativeZero:
      return -0;
    case Kind.Text:
      return textOf(new Uint16Array(copyOf(bytes)));
    case Kind.NullPrototype:
      return withoutPrototype(unpack(bytes));
    default:
      throw new RangeError(`there is no extension ${kind}`);
  }
}

function copyOf(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

function typedArrayOf(bytes: Uint8Array): ArrayBufferView {
  const type = typedArrays[bytes[0] ?? typedArrays.length];
  if (type === undefined) throw new RangeError("the type of an array is unknown");
  return type.over(copyOf(bytes.subarray(1)));
}

function mapOf(list: readonly unknown[]): Map<unknown, unknown> {
  if (list.length % 2 !== 0) throw new RangeError("a Map has a key without a value");
  const map = new Map<unknown, unknown>();
  for (let i = 0; i < list.length; i += 2) map.set(list[i], list[i + 1]);
  return map;
}

function bigintOf(hex: string): bigint {
  const negative = hex.startsWith("-");
  const magnitude = BigInt(`0x${negative ? hex.slice(1) : hex}`);
  return negative ? -magnitude : magnitude;
}

function textOf(units: Uint16Array): string {
  const parts: string[] = [];
  for (let i = 0; i < units.length; i += 8_192) parts.push(String.fromCharCode(...units.subarray(i, i + 8_192)));
  return parts.join("");
}

function withoutPrototype(object: unknown): unknown {
  if (typeof object !== "object" || object === null || Object.getPrototypeOf(object) !== Object.prototype) {
    throw new RangeError("an object is missing");
  }
  return Object.assign(Object.create(null), object);
}

function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new RangeError("a list is missing");
}
