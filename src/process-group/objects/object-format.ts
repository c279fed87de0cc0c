/** How deep objects may be nested, in both encoding and decoding. */
export const MAX_DEPTH = 100;

/** Extension types beyond those of MessagePack; part of the wire format. */
export enum Kind {
  /** One byte for the type, see {@link typedArrays}, and the elements. */
  TypedArray = 1,
  ArrayBuffer = 2,
  /** A list of keys and values in turn. */
  Map = 3,
  /** A list. */
  Set = 4,
  /** Hexadecimal digits. */
  BigInt = 5,
  /** Milliseconds as a float64. */
  Date = 6,
  Undefined = 7,
  /** -0, which MessagePack's integers do not have. */
  NegativeZero = 8,
  /** UTF-16 code units of a string that UTF-8 cannot hold. */
  Text = 9,
  /** An object without a prototype, with the content of an ordinary one. */
  NullPrototype = 10,
}

/** Whether the content of a kind is itself encoded. */
export function isNesting(kind: number): boolean {
  return kind === Kind.Map || kind === Kind.Set || kind === Kind.NullPrototype;
}

type TypedArrayClass = new (buffer: ArrayBuffer) => ArrayBufferView;

/** The order of this list is part of the wire format. */
export const typedArrays: readonly {
  readonly prototype: object;
  readonly over: (bytes: ArrayBuffer) => ArrayBufferView;
}[] = [
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
]
  .map((type: TypedArrayClass) => ({
    prototype: type.prototype as object,
    over: (bytes: ArrayBuffer): ArrayBufferView => new type(bytes),
  }))
  .concat(
    { prototype: DataView.prototype, over: (bytes) => new DataView(bytes) },
    { prototype: Buffer.prototype, over: (bytes) => Buffer.from(bytes) },
  );
