import { describe, expect, test } from "bun:test";
import { type DType, type TensorStorage, tensor } from "../tensor/index.ts";
import { indexOfNaN } from "./nan-search.ts";

const lengths = [1, 2, 3, 4, 5, 8, 31];

/** Values that are not NaN, at the limits. */
const innocent = [0, -0, 1, -1, Infinity, -Infinity];

function of(dtype: DType, numbers: readonly number[]): TensorStorage {
  return tensor(numbers as number[], { dtype }).data;
}

describe("indexOfNaN", () => {
  test.each(["float16", "bfloat16", "float32", "float64"] as const)("%s: at each place of each length", (dtype) => {
    for (const length of lengths) {
      const numbers = Array.from({ length }, (_, i) => innocent[i % innocent.length] ?? 0);
      expect(indexOfNaN(of(dtype, numbers), dtype)).toBe(-1);
      for (let at = 0; at < length; at++) {
        expect(indexOfNaN(of(dtype, numbers.with(at, Number.NaN)), dtype)).toBe(at);
        expect(indexOfNaN(of(dtype, numbers.fill(Number.NaN, at, length - 1).with(at, Number.NaN)), dtype)).toBe(at);
        numbers.fill(1);
      }
    }
  });

  test.each([
    ["complex64", Float32Array],
    ["complex128", Float64Array],
  ] as const)("%s: in either part", (dtype, Parts) => {
    expect(indexOfNaN(new Parts(10), dtype)).toBe(-1);
    for (let part = 0; part < 10; part++) {
      expect(indexOfNaN(new Parts(10).fill(Number.NaN, part, part + 1), dtype)).toBe(Math.floor(part / 2));
    }
  });

  test.each([
    ["float16", 0x7c00],
    ["bfloat16", 0x7f80],
  ] as const)("%s: every bit pattern, next to every kind of neighbour", (dtype, infinity) => {
    const wrong: string[] = [];
    const check = (first: number, second: number, expected: number): void => {
      if (indexOfNaN(Uint16Array.of(first, second), dtype) !== expected) wrong.push(`${first}, ${second}`);
    };
    for (let bits = 0; bits <= 0xffff; bits++) {
      const found = (bits & 0x7fff) > infinity;
      for (const other of [0, 0x8000, infinity, 0x8000 | infinity]) {
        check(bits, other, found ? 0 : -1);
        check(other, bits, found ? 1 : -1);
      }
    }
    expect(wrong).toEqual([]);
  });

  test.each([
    ["float8_e4m3fn", [0x7f, 0xff]],
    ["float8_e5m2", [0x7d, 0x7e, 0x7f, 0xfd, 0xfe, 0xff]],
  ] as const)("%s: every bit pattern, at each place next to every kind of neighbour", (dtype, nans) => {
    const wrong: string[] = [];
    for (let bits = 0; bits <= 0xff; bits++) {
      const found = nans.some((nan) => nan === bits);
      for (const other of [0, 0x80, 0x7c, 0xfc]) {
        for (let at = 0; at < 7; at++) {
          const bytes = new Uint8Array(7).fill(other).fill(bits, at, at + 1);
          if (indexOfNaN(bytes, dtype) !== (found ? at : -1)) wrong.push(`${bits} at ${at} among ${other}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test("memory that begins or ends within a word, or is shared by several tensors", () => {
    for (const [dtype, size] of [
      ["float16", 2],
      ["bfloat16", 2],
      ["float8_e4m3fn", 1],
      ["float8_e5m2", 1],
      ["float32", 4],
      ["float64", 8],
    ] as const) {
      const bytes = new Uint8Array(new SharedArrayBuffer(100));
      for (const offset of [0, 1, 2, 3, 4, 6, 8]) {
        const view = bytes.fill(0).subarray(offset, offset + 5 * size);
        expect(indexOfNaN(view, dtype)).toBe(-1);
        bytes.fill(0xff, offset + 5 * size);
        bytes.fill(0xff, 0, offset);
        expect(indexOfNaN(view, dtype)).toBe(-1);
        view.fill(0xff, 4 * size);
        expect(indexOfNaN(view, dtype)).toBe(4);
      }
    }
  });

  test("other dtypes have no NaN", () => {
    for (const dtype of ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"] as const) {
      expect(indexOfNaN(new Uint8Array(16).fill(0xff), dtype)).toBe(-1);
    }
    expect(indexOfNaN(new Float32Array(0), "float32")).toBe(-1);
  });

  test.each(["float16", "bfloat16", "float8_e5m2", "float32", "float64", "complex64"] as const)(
    "1 MB of %s takes a few times what reading it does",
    (dtype) => {
      const megabyte = new Uint8Array(2 ** 20);
      const copy = new Uint8Array(2 ** 20);
      const best = (act: () => unknown): number =>
        Math.min(
          ...Array.from({ length: 200 }, () => {
            const started = performance.now();
            act();
            return performance.now() - started;
          }),
        );
      const checked = best(() => indexOfNaN(megabyte, dtype));
      expect(checked).toBeLessThan(20 * best(() => copy.set(megabyte)));
    },
  );
});
