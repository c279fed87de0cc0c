import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { DistBackendError, InvalidArgumentError } from "../../errors/index.ts";
import { checkEncoding } from "./encoding-check.ts";
import { decodeObject, encodeObject } from "./object-codec.ts";

const MAX_BYTES = 2 ** 20;
const encode = (object: unknown, maxBytes = MAX_BYTES) => encodeObject(object, maxBytes);
const decode = (bytes: Uint8Array, maxBytes = MAX_BYTES) => decodeObject("recvObject", bytes, 3, maxBytes);
const copyOf = (object: unknown) => decode(encode(object));

/** `make(…make(make(seed)))`, `depth` times. */
function nest<T>(depth: number, seed: T, make: (inner: T) => T): T {
  let value = seed;
  for (let i = 0; i < depth; i++) value = make(value);
  return value;
}

describe("what arrives unchanged", () => {
  const values: [string, unknown][] = [
    ["null", null],
    ["undefined", undefined],
    ["undefined inside", { a: undefined, b: [undefined, null] }],
    ["booleans", [true, false]],
    ["integers", [0, 127, 128, -32, -33, 2 ** 31, -(2 ** 40), 2 ** 53 - 1, -(2 ** 53 - 1), 2 ** 64]],
    ["-0, also inside", [-0, { zero: -0 }, new Map([["zero", -0]])]],
    ["NaN and infinities", [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]],
    ["fractions", [0.1, -0.5, Number.MIN_VALUE, Number.MAX_VALUE]],
    ["bigints", [0n, -5n, 2n ** 200n, -(2n ** 64n)]],
    ["text", ["", "ünï", "\u{1f600}", "x".repeat(70_000)]],
    ["text with half a surrogate pair", ["\ud800", "a\udfffb", `${"\udc00".repeat(9_000)}`]],
    ["dates", [new Date(1_234.5), new Date(-8.64e15)]],
    ["maps of any keys", new Map<unknown, unknown>([[1, new Set(["a", { deep: [new Map()] }])], [{ key: true }, 2n], [undefined, -0]])], // biome-ignore format: one value a line
    ["sets", new Set<unknown>([1, "1", [1], undefined])],
    ["an ArrayBuffer", new Uint16Array([1, 2]).buffer],
    ["a Buffer", Buffer.from("bytes")],
    ["a DataView", new DataView(new Uint8Array([1, 2, 3]).buffer, 1)],
    ["an object without prototype", Object.assign(Object.create(null), { a: [1] })],
    ["keys of all kinds", { "": 1, constructor: 2, toString: 3, "7": 4, length: 5, ü: 6 }],
    ["lists of lists", { nested: { list: [1, "two", null, [], {}] } }],
  ];
  test.each(values)("%s", (_, value) => {
    const copy = copyOf(value);
    expect(copy).toStrictEqual(value);
    if (Array.isArray(value))
      for (const [i, each] of value.entries()) expect(Object.is(each, -0)).toBe(Object.is((copy as unknown[])[i], -0));
  });

  test.each([
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float16Array,
    Float32Array,
    Float64Array,
  ])("elements of %p, without the rest of their buffer", (type) => {
    for (const array of [type.of(1, 2, 250), new type(0), type.of(9, 8, 7, 6).subarray(1, 3)]) {
      const copy = copyOf([array]) as [typeof array];
      expect(copy[0]).toStrictEqual(array);
      expect(copy[0].buffer.byteLength).toBe(array.byteLength);
    }
  });

  test("a getter is read once, and what was checked is what is sent", () => {
    let calls = 0;
    const object = {
      plain: 1,
      get changing() {
        return calls++ === 0 ? 1 : new Map();
      },
      zero: -0,
    };
    expect(decode(encode(object))).toEqual({ plain: 1, changing: 1, zero: -0 });
    expect(calls).toBe(1);
  });

  test("an invalid date", () => {
    expect((copyOf(new Date(Number.NaN)) as Date).getTime()).toBeNaN();
  });

  test("64-bit integers, and bits of floats", () => {
    expect(copyOf(BigInt64Array.of(-1n, 2n ** 62n))).toStrictEqual(BigInt64Array.of(-1n, 2n ** 62n));
    expect(copyOf(BigUint64Array.of(2n ** 64n - 1n))).toStrictEqual(BigUint64Array.of(2n ** 64n - 1n));
    const copy = copyOf(Float32Array.of(-0, Number.NaN)) as Float32Array;
    expect([Object.is(copy[0], -0), copy[1]]).toEqual([true, Number.NaN]);
  });

  test("an array whose own properties lie arrives as what it really is", () => {
    const liar = Uint8Array.of(1, 2, 3);
    for (const [name, value] of Object.entries({ buffer: new ArrayBuffer(9), byteLength: 9, byteOffset: 1 })) {
      Object.defineProperty(liar, name, { value });
    }
    expect(copyOf(liar)).toEqual(Uint8Array.of(1, 2, 3));
  });

  test.each([2, 100])("a getter in a list of %d elements is read once", (length) => {
    let calls = 0;
    const list: unknown[] = Array(length).fill(1);
    Object.defineProperty(list, 0, { enumerable: true, get: () => (calls++ === 0 ? 5 : new Map([[1, 2]])) });
    expect(copyOf(list)).toEqual([5, ...Array<number>(length - 1).fill(1)]);
    expect(calls).toBe(1);
  });

  test("memory that is shared or can be resized arrives as a copy that is neither", () => {
    const shared = new Uint8Array(new SharedArrayBuffer(3)).fill(5);
    expect(copyOf(shared)).toStrictEqual(new Uint8Array([5, 5, 5]));
    const resizable = new ArrayBuffer(2, { maxByteLength: 8 });
    expect((copyOf(resizable) as ArrayBuffer).resizable).toBe(false);
  });

  test("a getter as its value, and a shared object once for each reference", () => {
    const shared = { a: 1 };
    const copy = copyOf({
      get value() {
        return -0;
      },
      list: [shared, shared],
    }) as { value: number; list: [object, object] };
    expect(copy).toStrictEqual({ value: -0, list: [{ a: 1 }, { a: 1 }] });
    expect(copy.list[0]).not.toBe(copy.list[1]);
  });
});

describe("what would arrive as something else is refused", () => {
  class Point {
    x = 1;
  }
  class Scores extends Uint8Array {}
  class Words extends Array<string> {}
  class Bag extends Map {}
  const cycle: unknown[] = [];
  cycle.push([cycle, cycle]);
  const gone = new Uint8Array(4);
  gone.buffer.transfer();
  const values: [string, unknown, string][] = [
    ["an instance of a class", new Point(), "Point is not plain data"],
    ["one deep inside", { a: [new Map([["key", new Point()]])] }, "Point is not plain data"],
    ["a function", () => 1, "not plain data"],
    ["a symbol", Symbol("s"), "not plain data"],
    ["an error", new Error("x"), "Error is not plain data"],
    ["a regular expression", /x/, "RegExp is not plain data"],
    ["a promise", Promise.resolve(), "Promise is not plain data"],
    ["a file", Bun.file("x"), "not plain data"],
    ["a weak map", new WeakMap(), "WeakMap is not plain data"],
    ["boxed numbers", Object(1), "Number is not plain data"],
    ["shared memory", new SharedArrayBuffer(4), "SharedArrayBuffer is not plain data"],
    ["a subclass of a TypedArray", new Scores(2), "Scores is not plain data"],
    ["a subclass of Array", Words.of("a"), "not plain data"],
    ["a subclass of Map", new Bag(), "not plain data"],
    ["an object that poses as a Date", Object.create(Date.prototype), "not plain data"],
    ["an object of another realm", runInNewContext("({ a: 1 })"), "not plain data"],
    ["keys that are symbols", { [Symbol.for("k")]: 1 }, "properties that would be lost"],
    [
      "properties that are not enumerable",
      Object.defineProperty({}, "x", { value: 1 }),
      "properties that would be lost",
    ],
    ["properties of a list", /(?<y>\d)/.exec("1"), "properties that would be lost"],
    ["properties of a Map", Object.assign(new Map(), { x: 1 }), "properties that would be lost"],
    ["properties of a Date", Object.assign(new Date(0), { x: 1 }), "properties that would be lost"],
    // biome-ignore lint/suspicious/noSparseArray: that is the case
    ["a hole", [1, , 2], "a list has no element 1 of 3"],
    ["a long list of holes", new Array(500_000), "a list has no element 0"],
    ["a key __proto__", JSON.parse('[{ "__proto__": 1 }]'), "a property has the key __proto__"],
    ["a key that is not well-formed text", { "\ud800": 1 }, "the key of a property is not well-formed text"],
    ["a circle", cycle, "nested more than 100 deep, or in a circle"],
    ["detached memory", gone, "is detached"],
    ["a detached ArrayBuffer", gone.buffer, "is detached"],
    ["a getter that throws", { get a() { throw new Error("not now"); } }, "not now"], // biome-ignore format: one value a line
  ];
  test.each(values)("%s", (_, value, reason) => {
    const act = () => encode(value);
    expect(act).toThrow(InvalidArgumentError);
    expect(act).toThrow(expect.objectContaining({ code: "OBJECT_NOT_SENDABLE" }));
    expect(act).toThrow("this object cannot be sent: ");
    expect(act).toThrow(reason);
  });

  test("an object whose parts are shared so often that it would be endless", () => {
    const doubling = nest<unknown>(90, 1, (inner) => [inner, inner]);
    expect(() => encode(doubling)).toThrow(expect.objectContaining({ code: "OBJECT_TOO_LARGE" }));
    const text = nest<unknown>(60, "x".repeat(1_000), (inner) => [inner, inner]);
    expect(() => encode(text)).toThrow(
      "takes more than 1048576 bytes, the limit is 1048576: raise maxBytes on all ranks",
    );
    expect(() => encode("x".repeat(100), 50)).toThrow("raise maxBytes on all ranks");
    expect(() => encode(2n ** 800n, 50)).toThrow("takes 204 bytes, the limit is 50");
  });

  test("more objects than a message may hold", () => {
    const many = Array.from({ length: 400_000 }, () => []);
    expect(() => encode(many)).toThrow(
      "too large: decoded, it would take more than 8 times maxBytes of memory (1048576); raise it on all ranks",
    );
    expect(encode(many, 4 * MAX_BYTES).byteLength).toBe(400_005);
    expect(copyOf(many.slice(0, 150_000))).toHaveLength(150_000);
  });
});

describe("nesting", () => {
  const wraps: [string, (inner: unknown) => unknown][] = [
    ["lists", (inner) => [inner]],
    ["objects", (inner) => ({ inner })],
    ["Maps", (inner) => new Map([[1, inner]])],
    ["Maps by key", (inner) => new Map([[inner, 1]])],
    ["Sets", (inner) => new Set([inner])],
    ["objects without prototype", (inner) => Object.assign(Object.create(null), { inner })],
  ];
  test.each(wraps)("%s, 100 deep and no deeper", (_, wrap) => {
    const deepest = nest(100, 7 as unknown, wrap);
    expect(copyOf(deepest)).toStrictEqual(deepest);
    expect(() => encode(wrap(deepest))).toThrow("nested more than 100 deep");
  });

  test("lists of Maps", () => {
    const pair = (inner: unknown) => [new Map([["key", inner]])];
    expect(copyOf(nest(50, null as unknown, pair))).toStrictEqual(nest(50, null as unknown, pair));
    expect(() => encode(nest(60, null as unknown, pair))).toThrow(
      expect.objectContaining({ code: "OBJECT_NOT_SENDABLE" }),
    );
  });
});

/** A random value that can be sent. */
const sendable: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  scalar: fc.oneof(
    fc.constantFrom(null, undefined, true, false, -0, 0),
    fc.double(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.bigInt(),
    fc.string({ unit: "binary" }),
    fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 3 }).map((units) => String.fromCharCode(...units)),
    fc.date({ noInvalidDate: false }),
    fc.uint8Array({ maxLength: 9 }),
    fc.float64Array({ maxLength: 3 }),
    fc.bigInt64Array({ maxLength: 3 }),
    fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes)),
  ),
  value: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    tie("scalar"),
    fc.array(tie("value"), { maxLength: 5 }),
    fc
      .dictionary(
        fc.string().filter((key) => key !== "__proto__"),
        tie("value"),
        { maxKeys: 5 },
      )
      .map((object) => (Object.keys(object).length % 2 === 0 ? object : { ...object })),
    fc.array(fc.tuple(tie("value"), tie("value")), { maxLength: 4 }).map((entries) => new Map(entries)),
    fc.array(tie("value"), { maxLength: 4 }).map((values) => new Set(values)),
  ),
})).value;

describe("bytes", () => {
  test("what the encoder accepts is decoded unchanged", () => {
    fc.assert(
      fc.property(sendable, (value) => {
        expect(Buffer.compare(encode(copyOf(value)), encode(value))).toBe(0);
        expect(Bun.inspect(copyOf(value), { depth: 20 })).toBe(Bun.inspect(value, { depth: 20 }));
      }),
      { numRuns: 500 },
    );
  });

  /** Decodes bytes that may be anything: an object, or the one error. */
  function tryDecode(bytes: Uint8Array): void {
    let object: unknown;
    try {
      object = decode(bytes);
    } catch (error) {
      expect(error).toBeInstanceOf(DistBackendError);
      expect(error).toMatchObject({ code: "OBJECT_MALFORMED", details: { peers: [3] } });
      expect((error as Error).message).toStartWith("recvObject: what rank 3 sent is not an object of this library (");
      return;
    }
    Bun.inspect(object, { depth: 200 });
  }

  test("random bytes are an error, or an object by chance", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), tryDecode), { numRuns: 2_000 });
  });

  test("changed, truncated or repeated bytes are an object or an error", () => {
    const change = fc.record({ at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }) });
    fc.assert(
      fc.property(sendable, fc.array(change, { maxLength: 4 }), fc.nat(), (value, changes, cut) => {
        const bytes = encode(value);
        tryDecode(bytes.slice(0, cut % (bytes.length + 1)));
        tryDecode(Buffer.concat([bytes, bytes]));
        for (const { at, byte } of changes) bytes[at % bytes.length] = byte;
        tryDecode(bytes);
      }),
      { numRuns: 1_000 },
    );
    expect(Object.getPrototypeOf({})).toBe(Object.prototype);
  });

  test("bytes truncated anywhere are an error", () => {
    const bytes = encode({ a: [1, -0, "text", new Map([[1, new Set([2n])]]), Float32Array.of(1)], b: 2 ** 40 });
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decode(bytes.subarray(0, length))).toThrow(expect.objectContaining({ code: "OBJECT_MALFORMED" }));
    }
  });

  const u32 = (n: number) => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
  const ext = (kind: number, ...content: number[]) => [0xc9, ...u32(content.length), kind, ...content];
  const malicious: [string, number[], string][] = [
    ["a long list", [0xdd, ...u32(2 ** 32 - 1)], "a list announces 4294967295 values where 0 bytes are left"],
    ["a long object", [0xdf, ...u32(2 ** 31), 0], "an object announces 4294967296 values where 1 bytes are left"],
    ["long text", [0xdb, ...u32(2 ** 30), 0x61], "1073741824 bytes are announced where 1 are left"],
    ["a long extension", [0xc9, ...u32(2 ** 30), 1, 0], "1073741824 bytes are announced"],
    ["a list that leaves its extension", [...ext(4, 0x92, 1), 2], "a list announces 2 values where 1 bytes are left"],
    [
      "text that leaves its extension",
      [...ext(4, 0x91, 0xa5), 1, 2, 3, 4, 5],
      "5 bytes are announced where 0 are left",
    ],
    ["an extension that is longer than its value", ext(4, 0x90, 1), "1 bytes are left over"],
    ["more after the object", [1, 2], "1 bytes are left over"],
    ["a Map with a key alone", ext(3, 0x91, 1), "a Map has a key without a value"],
    ["a Set that is not a list", ext(4, 1), "a list is missing"],
    ["text for an object without prototype", ext(10, 0xa1, 0x61), "an object is missing"],
    ["a key that is not text", [0x81, 1, 2], "the key of a property is not text"],
    ["a key __proto__", [0x81, 0xa9, ...Buffer.from("__proto__"), 1], "a property has the key __proto__"],
    ["a long form of that key", [0x81, 0xd9, 9, ...Buffer.from("__proto__"), 1], "a property has the key __proto__"],
    ["an unknown type", [0xc1], "there is no type 0xc1"],
    ["raw bytes, which are never sent", [0xc4, 1, 1], "there is no type 0xc4"],
    ["an unknown extension", [0xd4, 77, 0], "there is no extension 77"],
    ["a timestamp", [0xd6, 0xff, 0, 0, 0, 0], "there is no extension 255"],
    ["half an element", ext(1, 5, 1, 2, 3), ""],
    ["an array of an unknown type", ext(1, 99, 1), "the type of an array is unknown"],
    ["an array without a type", ext(1), "the type of an array is unknown"],
    ["invalid digits", ext(5, 0x7a), ""],
    ["nothing", [], "1 bytes are announced where 0 are left"],
  ];
  test.each(malicious)("%s", (_, bytes, reason) => {
    const act = () => decode(Uint8Array.from(bytes));
    expect(act).toThrow(expect.objectContaining({ code: "OBJECT_MALFORMED" }));
    expect(act).toThrow(reason);
  });

  test("unlimited depth of any kind costs no memory", () => {
    const lists = new Uint8Array(2 ** 20).fill(0x91);
    expect(() => checkEncoding(lists, 2 ** 20)).toThrow("nested more than 100 deep");
    let sets = [0x90];
    for (let i = 0; i < 300; i++) sets = ext(4, ...(i === 0 ? sets : [0x91, ...sets]));
    expect(() => checkEncoding(Uint8Array.from(sets), 2 ** 20)).toThrow("nested more than 100 deep");
    const bare = ext(4, ...ext(4, ...ext(4, 0x90)));
    expect(() => checkEncoding(Uint8Array.from(bare), 2 ** 20)).toThrow("a list is missing");
  });

  test.each([
    ["lists in lists", 60, "nested more than 100 deep"],
    ["lengths without elements", 60, "nested more than 100 deep"],
    ["empty objects", 60, "8 times maxBytes of memory"],
    ["empty sets", 16, "8 times maxBytes of memory"],
    ["objects of other properties each", 16, "8 times maxBytes of memory"],
    ["short texts", 60, "8 times maxBytes of memory"],
    ["numeric names", 60, "8 times maxBytes of memory"],
    ["extensions in extensions", 60, "a list is missing"],
  ])("%s, %d MB of them, are refused immediately and cost no memory", (form, mebibytes, reason) => {
    const fixture = join(import.meta.dir, "../fixtures/malicious-object.ts");
    const { stdout, stderr } = Bun.spawnSync({
      cmd: [process.execPath, fixture, form, String(mebibytes)],
      timeout: 30_000,
    });
    expect(stderr.toString()).toBe("");
    const result: { message: string; mebibytes: number } = JSON.parse(stdout.toString());
    expect(result.message).toContain(reason);
    expect(result.mebibytes).toBeLessThan(200);
  });

  test("numeric names count by the slots that they take", () => {
    const byNumber = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [i, i]));
    expect(copyOf(byNumber)).toEqual(byNumber);
    const sparse = Array.from({ length: 800 }, () => ({ 999: 1 }));
    expect(copyOf(sparse)).toEqual(sparse);
    expect(() => encode([...sparse, ...sparse])).toThrow("memory");
    const others = Array.from({ length: 2_000 }, () => ({ "+99": 1, "9.9": 2, 1000: 3, a99: 4 }));
    expect(copyOf(others)).toEqual(others);
    const long = [0x81, 0xd9, 3, 0x39, 0x39, 0x39, 0xc0];
    const many = Uint8Array.from([0xdc, 0x10, 0x00, ...Array.from({ length: 4_096 }, () => long).flat()]);
    expect(() => decode(many)).toThrow("memory");
  });

  test("the number of objects is bounded by the limit of the message", () => {
    const bytes = new Uint8Array(400_005).fill(0x80);
    bytes.set([0xdd, ...u32(400_000)]);
    expect(() => decode(bytes)).toThrow("more than 8 times maxBytes of memory");
    expect(decode(bytes, 2 ** 22)).toHaveLength(400_000);
  });
});
