import { DistBackendError, InvalidArgumentError } from "../errors/index.ts";
import { describe } from "../tensor/index.ts";

/** How deep objects may be nested, on the way out and on the way in. */
const MAX_DEPTH = 100;

const typedArrays = [
  Uint8Array,
  Int8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float16Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
] as const;

/** Types beyond those of MessagePack; part of what is sent. */
enum Kind {
  TypedArray = 1,
  ArrayBuffer = 2,
  Map = 3,
  Set = 4,
  BigInt = 5,
  Date = 6,
}

/**
 * Turns objects into bytes and back: MessagePack, with the types that are listed here and no others. Decoding builds
 * plain data only; no constructor or method of a sender's choice runs.
 */
export interface ObjectCodec {
  /** Throws InvalidArgumentError for what cannot be sent: functions, symbols, instances of classes, cycles. */
  encode(object: unknown): Uint8Array<ArrayBuffer>;
  /** Throws DistBackendError for what is no object of this codec. */
  decode(bytes: Uint8Array, from: string): unknown;
}

let loading: Promise<ObjectCodec> | undefined;

/** The codec, loaded at the first use. */
export function objectCodec(): Promise<ObjectCodec> {
  loading ??= load();
  return loading;
}

async function load(): Promise<ObjectCodec> {
  const { Encoder, ExtData, Decoder } = await import("@msgpack/msgpack");
  let depth = 0;
  /** Types such as Map hold packed values of their own, which a peer could nest without end. */
  function nested<T>(body: () => T): T {
    depth++;
    try {
      if (depth > MAX_DEPTH) throw new RangeError(`nested more than ${MAX_DEPTH} deep`);
      return body();
    } finally {
      depth--;
    }
  }
  const extensionCodec = {
    tryToEncode: (object: unknown) => {
      const extension = extensionOf(object, pack);
      return extension === undefined ? null : new ExtData(...extension);
    },
    decode: (bytes: Uint8Array, kind: number) => contentOf(kind, bytes, unpack),
  };
  function pack(value: unknown): Uint8Array<ArrayBuffer> {
    return nested(() => new Encoder({ extensionCodec, maxDepth: MAX_DEPTH, ignoreUndefined: true }).encode(value));
  }
  function unpack(bytes: Uint8Array): unknown {
    return nested(() => new Decoder({ extensionCodec }).decode(bytes));
  }
  return {
    encode: (object) => {
      try {
        return pack(object);
      } catch (cause) {
        throw new InvalidArgumentError(`this object cannot be sent: ${reasonOf(cause)}`, {
          code: "OBJECT_NOT_SENDABLE",
          cause,
        });
      }
    },
    decode: (bytes, from) => {
      try {
        const object = unpack(bytes);
        requireShallow(object, MAX_DEPTH);
        return object;
      } catch (cause) {
        throw new DistBackendError(
          `what ${from} sent is no object of this library (${reasonOf(cause)}); objects go among Bun ranks only, PyTorch pickles its own`,
          { code: "OBJECT_MALFORMED", cause },
        );
      }
    },
  };
}

/** Kind and content of what MessagePack has no type for; undefined for what it has. Throws for what cannot be sent. */
function extensionOf(object: unknown, pack: (value: unknown) => Uint8Array): [Kind, Uint8Array] | undefined {
  if (typeof object === "bigint") return [Kind.BigInt, new TextEncoder().encode(object.toString(16))];
  if (Array.isArray(object) || isPlain(object)) return undefined;
  if (ArrayBuffer.isView(object)) return [Kind.TypedArray, withType(object)];
  if (object instanceof ArrayBuffer) return [Kind.ArrayBuffer, new Uint8Array(object)];
  if (object instanceof Map) return [Kind.Map, pack([[...object.keys()], [...object.values()]])];
  if (object instanceof Set) return [Kind.Set, pack([...object])];
  if (object instanceof Date) return [Kind.Date, new Uint8Array(Float64Array.of(object.getTime()).buffer)];
  throw new TypeError(`${describe(object)} is not plain data`);
}

function contentOf(kind: number, bytes: Uint8Array, unpack: (bytes: Uint8Array) => unknown): unknown {
  switch (kind) {
    case Kind.BigInt:
      return bigintOf(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    case Kind.TypedArray:
      return typedArrayOf(bytes);
    case Kind.ArrayBuffer:
      return bytes.slice().buffer;
    case Kind.Map: {
      const [keys, values] = listOf(unpack(bytes));
      const of = listOf(values);
      return new Map(listOf(keys).map((key, i) => [key, of[i]]));
    }
    case Kind.Set:
      return new Set(listOf(unpack(bytes)));
    case Kind.Date:
      return new Date(new Float64Array(bytes.slice().buffer)[0] ?? Number.NaN);
    default:
      throw new RangeError(`type ${kind} is unknown`);
  }
}

function withType(view: ArrayBufferView): Uint8Array {
  const type = typedArrays.findIndex((each) => view instanceof each);
  if (type < 0) throw new TypeError(`${describe(view)} is not plain data`);
  const bytes = new Uint8Array(view.byteLength + 1);
  bytes[0] = type;
  bytes.set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), 1);
  return bytes;
}

function typedArrayOf(bytes: Uint8Array): ArrayBufferView {
  const type = typedArrays[bytes[0] ?? typedArrays.length];
  if (type === undefined) throw new RangeError("the type of an array is unknown");
  return new type(bytes.slice(1).buffer);
}

function bigintOf(hex: string): bigint {
  const negative = hex.startsWith("-");
  const magnitude = BigInt(`0x${negative ? hex.slice(1) : hex}`);
  return negative ? -magnitude : magnitude;
}

function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new RangeError("a list is missing");
}

function isPlain(object: unknown): boolean {
  if (typeof object !== "object" || object === null) return false;
  const prototype: unknown = Object.getPrototypeOf(object);
  return prototype === null || prototype === Object.prototype;
}

function requireShallow(value: unknown, depth: number): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  if (depth < 0) throw new RangeError(`nested more than ${MAX_DEPTH} deep`);
  const inner = value instanceof Map ? [...value].flat(1) : value instanceof Set ? value : Object.values(value);
  for (const each of inner) requireShallow(each, depth - 1);
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
