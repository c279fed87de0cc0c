import { describe, expect, test } from "bun:test";
import { InvalidArgumentError } from "../errors/index.ts";
import { type DType, dtypeNames, dtypes } from "./dtype.ts";
import { type Tensor, tensor } from "./tensor.ts";

const elements = (made: Tensor): (number | bigint)[] => [...made.data];

describe("tensor()", () => {
  test.each([...dtypeNames])("%s from numbers", (dtype) => {
    const made = tensor([1, 0, 1, 1], { dtype });
    const complex = dtypes[dtype].kind === "complex";
    expect(made.length).toBe(complex ? 2 : 4);
    expect(made.byteLength).toBe(made.length * dtypes[dtype].size);
    expect(made.shape).toEqual([made.length]);
    if (dtype === "int64" || dtype === "uint64") expect(elements(made)).toEqual([1n, 0n, 1n, 1n]);
    else expect(made.toNumbers()).toEqual([1, 0, 1, 1]);
  });

  test("a getter is read once, so that the checked value is the stored one", () => {
    let calls = 0;
    const values = Object.defineProperty([1, 2], 0, { get: () => (calls++ === 0 ? 7 : 300) });
    expect(elements(tensor(values, { dtype: "uint8" }))).toEqual([7, 2]);
  });

  test("without a dtype it is refused", () => {
    const make = tensor as unknown as (data: number[]) => Tensor;
    expect(() => make([1])).toThrow(InvalidArgumentError);
    expect(() => make([1])).toThrow('options must be an object such as { dtype: "float32" }, got undefined');
  });

  test("bool is 0 or 1 whatever it is made from", () => {
    expect(elements(tensor([true, false, 7, 0, -1, 3n, 0n], { dtype: "bool" }))).toEqual([1, 0, 1, 0, 1, 1, 0]);
  });

  test("bfloat16 keeps raw bits and reads back as numbers", () => {
    const made = tensor([1, -2, 3.140625, 1.00390625], { dtype: "bfloat16" });
    expect(elements(made)).toEqual([0x3f80, 0xc000, 0x4049, 0x3f80]);
    expect(made.toNumbers()).toEqual([1, -2, 3.140625, 1]);
  });

  test("float16 rounds to the nearest", () => {
    expect(tensor([1.0004, 65519, 65520], { dtype: "float16" }).toNumbers()).toEqual([
      1,
      65504,
      Number.POSITIVE_INFINITY,
    ]);
  });

  test("complex accepts pairs", () => {
    const made = tensor([1, 2, 3, 4], { dtype: "complex64" });
    expect(made.length).toBe(2);
    expect(made.toNumbers()).toEqual([1, 2, 3, 4]);
    expect(() => tensor([1, 2, 3], { dtype: "complex128" })).toThrow("complex128 takes (re, im) pairs, got 3 numbers");
  });

  test("64-bit integers keep every bit", () => {
    const made = tensor([2n ** 63n - 1n, -(2n ** 63n), 5], { dtype: "int64" });
    expect(elements(made)).toEqual([2n ** 63n - 1n, -(2n ** 63n), 5n]);
    expect(() => made.toNumbers()).toThrow("toNumbers() cannot hold int64 exactly");
    expect(elements(tensor([2n ** 64n - 1n], { dtype: "uint64" }))).toEqual([2n ** 64n - 1n]);
  });

  test.each<[DType, number | bigint, string]>([
    ["uint8", 300, "holds 0 to 255"],
    ["uint8", -1, "holds 0 to 255"],
    ["uint8", 255.5, "holds 0 to 255"],
    ["int8", -129, "holds -128 to 127"],
    ["int16", 32768n, "holds -32768 to 32767"],
    ["uint16", 65536, "holds 0 to 65535"],
    ["int32", 2 ** 31, "holds -2147483648 to 2147483647"],
    ["uint32", 2n ** 32n, "holds 0 to 4294967295"],
    ["int64", 2 ** 63, "holds -9223372036854775808 to 9223372036854775807"],
    ["int64", -(2n ** 63n) - 1n, "holds -9223372036854775808"],
    ["uint64", -1n, "holds 0 to 18446744073709551615"],
    ["uint64", 2n ** 64n, "holds 0 to 18446744073709551615"],
    ["int32", Number.NaN, "neither NaN nor Infinity"],
    ["int64", Number.POSITIVE_INFINITY, "neither NaN nor Infinity"],
  ])("%s does not hold %p", (dtype, value, reason) => {
    const make = () => tensor([1, value], { dtype });
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(`element 1, ${value}, is not a value of ${dtype}`);
    expect(make).toThrow(reason);
  });

  test("fractions are truncated, floats round to infinity, bool accepts all", () => {
    expect(tensor([1.9, -1.9], { dtype: "int8" }).toNumbers()).toEqual([1, -1]);
    expect(elements(tensor([1.9, -1.9, true], { dtype: "int64" }))).toEqual([1n, -1n, 1n]);
    expect(tensor([1e39], { dtype: "float32" }).toNumbers()).toEqual([Number.POSITIVE_INFINITY]);
    expect(tensor([1e39], { dtype: "bfloat16" }).toNumbers()).toEqual([Number.POSITIVE_INFINITY]);
    expect(elements(tensor([Number.NaN, -1], { dtype: "bool" }))).toEqual([1, 1]);
    expect(tensor([127, -128], { dtype: "int8" }).toNumbers()).toEqual([127, -128]);
  });

  test("clamped bytes and DataViews are accepted as memory", () => {
    expect(tensor(new Uint8ClampedArray([1, 2, 3, 4]), { dtype: "int16" }).toNumbers()).toEqual([0x201, 0x403]);
    expect(tensor(new DataView(new ArrayBuffer(8), 4), { dtype: "float32" }).length).toBe(1);
  });

  test("numbers are copied, buffers are shared", () => {
    const numbers = [1, 2];
    const copied = tensor(numbers, { dtype: "float32" });
    numbers[0] = 9;
    expect(copied.toNumbers()).toEqual([1, 2]);

    const floats = new Float32Array([1, 2]);
    const shared = tensor(floats, { dtype: "float32" });
    floats[0] = 9;
    expect(shared.toNumbers()).toEqual([9, 2]);
  });

  test("a view's bytes are read from its offset, in any dtype", () => {
    const bytes = new Uint8Array(32);
    const words = new Uint32Array(bytes.buffer, 8, 2).fill(0x3f80_3f80);
    const made = tensor(words, { dtype: "bfloat16", shape: [2, 2] });
    expect(made.data.buffer).toBe(bytes.buffer);
    expect(made.data.byteOffset).toBe(8);
    expect(made.toNumbers()).toEqual([1, 1, 1, 1]);
    expect(tensor(bytes.buffer, { dtype: "complex64" }).length).toBe(4);
  });

  test("a SharedArrayBuffer is shared", () => {
    const shared = new SharedArrayBuffer(8);
    const made = tensor(shared, { dtype: "int32" });
    expect(made.data.buffer as unknown).toBe(shared);
    expect(made.length).toBe(2);
  });

  test("shapes hold all elements", () => {
    expect(tensor([1, 2, 3, 4, 5, 6], { dtype: "int8", shape: [2, 3] }).shape).toEqual([2, 3]);
    expect(tensor([7], { dtype: "int8", shape: [] }).shape).toEqual([]);
    expect(tensor([], { dtype: "int8", shape: [0, 4] }).length).toBe(0);
    for (const shape of [[7], [2, 2], [-2, -3], [1.5, 4], [], [Number.NaN]]) {
      expect(() => tensor([1, 2, 3, 4, 5, 6], { dtype: "int8", shape })).toThrow(InvalidArgumentError);
    }
  });

  test("bytes that are not a whole number of elements are refused", () => {
    expect(() => tensor(new Uint8Array(7), { dtype: "float32" })).toThrow("7 bytes are not a whole number of float32");
  });

  test("errors about the bytes name the argument", () => {
    const odd = new Uint8Array(new ArrayBuffer(12), 1, 8);
    const calls = [
      () => tensor(new Uint8Array(7), { dtype: "float32" }),
      () => tensor(odd, { dtype: "float32" }),
      () => tensor([1, 2, 3], { dtype: "complex64" }),
    ];
    for (const call of calls) {
      expect(call).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT", details: { argument: "data" } }));
    }
  });

  test("an unaligned offset is refused", () => {
    const odd = new Uint8Array(new ArrayBuffer(12), 1, 8);
    expect(() => tensor(odd, { dtype: "float32" })).toThrow("byte offset 1 is not aligned for float32");
    expect(tensor(odd, { dtype: "bool" }).length).toBe(8);
  });

  test.each<[string, unknown[], string]>([
    ["no options", [[1]], 'options must be an object such as { dtype: "float32" }, got undefined'],
    ["a dtype as options", [[1], "float32"], 'options must be an object such as { dtype: "float32" }, got "float32"'],
    ["no dtype", [[1], {}], 'dtype must be a name such as "float32", got undefined'],
    [
      "a list of lists",
      [
        [
          [1, 2],
          [3, 4],
        ],
        { dtype: "float32" },
      ],
      "element 0 is a list; give the numbers in one list",
    ],
    ["texts", [["1"], { dtype: "float32" }], 'element 0, "1", is not a value of float32'],
    ["a number as shape", [[1, 2], { dtype: "float32", shape: 3 }], "shape number 3 does not hold 2 elements"],
    ["a number", [3, { dtype: "float32" }], "or a list of numbers, got number 3"],
  ])("%s: says what is missing", (_, args, message) => {
    const make = () => (tensor as (...args: unknown[]) => unknown)(...args);
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(`tensor(): `);
    expect(make).toThrow(message);
  });

  test("an unknown dtype is refused", () => {
    expect(() => tensor([1], { dtype: "float8" as DType })).toThrow(InvalidArgumentError);
    expect(() => tensor([1], { dtype: "float8" as DType })).toThrow("unknown dtype float8; known are uint8, int8,");
  });

  test("a detached buffer is refused", () => {
    const gone = new Float32Array(4);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(() => tensor(gone, { dtype: "float32" })).toThrow(InvalidArgumentError);
    expect(() => tensor(gone.buffer, { dtype: "float32" })).toThrow(InvalidArgumentError);
  });

  test.each([undefined, null, 5, "text", {}, new Map()])("data that is not memory is refused: %p", (data) => {
    expect(() => tensor(data as unknown as number[], { dtype: "float32" })).toThrow(InvalidArgumentError);
  });

  test("values that are not numbers are refused", () => {
    for (const dtype of ["int64", "float32", "bfloat16"] as const) {
      expect(() => tensor(["x"] as unknown as number[], { dtype })).toThrow(InvalidArgumentError);
      expect(() => tensor([1.5, undefined] as unknown as number[], { dtype })).toThrow(InvalidArgumentError);
    }
  });
});
