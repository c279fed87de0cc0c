import { describe, expect, test } from "bun:test";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { type SparseTensor, type SparseTensorInit, sparseTensor, sumOfSparse } from "./sparse-tensor.ts";

/** All elements, in memory order. */
function dense({ shape, sparseDims, indices, values, nnz, blockLength }: SparseTensor): number[] {
  const all = new Array<number>(shape.reduce((product, n) => product * n, 1)).fill(0);
  for (let i = 0; i < nnz; i++) {
    let place = 0;
    for (let d = 0; d < sparseDims; d++) place = place * (shape[d] ?? 1) + Number(indices[d * nnz + i]);
    for (let k = 0; k < blockLength; k++) {
      const at = place * blockLength + k;
      all[at] = (all[at] ?? 0) + Number(values[i * blockLength + k]);
    }
  }
  return all;
}

describe("SparseTensor", () => {
  test("has indices by row and values by block", () => {
    const tensor = sparseTensor({
      indices: [
        [0, 2, 0],
        [1, 0, 1],
      ],
      values: new Float32Array([1, 2, 3, 4, 5, 6]),
      shape: [3, 2, 2],
      sparseDims: 2,
    });
    expect([tensor.nnz, tensor.blockLength, tensor.dtype]).toEqual([3, 2, "float32"]);
    expect(dense(tensor)).toEqual([0, 0, 6, 8, 0, 0, 0, 0, 3, 4, 0, 0]);
    const once = tensor.coalesce();
    expect([...once.indices]).toEqual([0n, 2n, 1n, 0n]);
    expect([...once.values]).toEqual([6, 8, 3, 4]);
    expect([...tensor.values]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("may be empty", () => {
    const tensor = sparseTensor({ indices: [[]], values: new BigInt64Array(0), shape: [5] });
    expect(sumOfSparse([tensor, tensor]).nnz).toBe(0);
  });

  test("memory of another realm and arrays with overridden properties are accepted for what they are", () => {
    const [indices, values] = runInNewContext("[new BigInt64Array([4n, 1n]), new Float32Array([1, 2])]");
    for (const array of [indices, values]) Object.defineProperty(array, "length", { value: 1 });
    const { nnz, ...own } = sparseTensor({ indices, values, shape: [5] }).coalesce();
    expect([nnz, [...own.indices], [...own.values]]).toEqual([2, [1n, 4n], [2, 1]]);
  });

  test.each([
    ["nothing", undefined, "it takes { indices, values, shape }, got undefined"],
    ["no values", { indices: [[0]], shape: [1] }, "values must be a TypedArray of float32"],
    ["no shape", { indices: [[0]], values: new Float32Array(1) }, "shape must be a list of sizes, got undefined"],
    ["a text as shape", { indices: [[0]], values: new Float32Array(1), shape: "1" }, 'a list of sizes, got "1"'],
    [
      "no indices",
      { values: new Float32Array(1), shape: [1] },
      "a list with a row for each sparse dimension, got undefined",
    ],
    [
      "indices without rows",
      { indices: [0], values: new Float32Array(1), shape: [1] },
      "a list with a row for each sparse dimension, got an array",
    ],
  ])("%s: refused, and the error names the argument", (_, init, reason) => {
    expect(() => sparseTensor(init as unknown as SparseTensorInit)).toThrow(
      expect.objectContaining({ name: "InvalidArgumentError", message: expect.stringContaining(reason) }),
    );
  });

  test("places that doubles cannot distinguish", () => {
    // torch.sparse_coo_tensor(...).coalesce() of the same
    const { indices, values } = sparseTensor({
      indices: [
        [4_194_304, 4_194_304, 4_194_304, 0, 4_194_304],
        [1, 0, 2, 4_294_967_295, 1],
      ],
      values: new Float32Array([1, 2, 4, 8, 16]),
      shape: [4_194_305, 4_294_967_296],
    }).coalesce();
    expect([...indices]).toEqual([0n, 4_194_304n, 4_194_304n, 4_194_304n, 4_294_967_295n, 0n, 1n, 2n]);
    expect([...values]).toEqual([8, 2, 17, 4]);
  });

  test("sums over spaces of any size", () => {
    const size = fc.constantFrom(3, 2 ** 26, 2 ** 27 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER);
    const space = fc.array(size, { minLength: 1, maxLength: 4 });
    const lists = fc.array(fc.array(fc.tuple(fc.nat(), fc.integer({ min: -9, max: 9 }))), {
      minLength: 1,
      maxLength: 3,
    });
    fc.assert(
      fc.property(space, lists, (shape, tensors) => {
        // A few adjacent places at either end of each dimension.
        const indexOf = (seed: number, d: number) => {
          const digit = Math.floor(seed / 4 ** d) % 4;
          return digit < 2 ? digit : (shape[d] ?? 1) - digit + 1;
        };
        const sums = new Map<string, number>();
        const sparse = tensors.map((cells) => {
          const at = cells.map(([seed]) => shape.map((_, d) => indexOf(seed, d)));
          for (const [i, place] of at.entries()) {
            const key = place.join(",");
            sums.set(key, (sums.get(key) ?? 0) + (cells[i]?.[1] ?? 0));
          }
          return sparseTensor({
            indices: shape.map((_, d) => at.map((place) => place[d] ?? 0)),
            values: BigInt64Array.from(cells, ([, value]) => BigInt(value)),
            shape,
          });
        });
        const { indices, values, nnz } = sumOfSparse(sparse);
        const places = Array.from({ length: nnz }, (_, i) => shape.map((_, d) => Number(indices[d * nnz + i])));
        expect(new Map(places.map((place, i) => [place.join(","), Number(values[i])]))).toEqual(sums);
        const differs = (a: number[], b: number[]) => a.findIndex((index, d) => index !== b[d]);
        for (const [i, place] of places.slice(1).entries()) {
          const before = places[i] ?? [];
          const d = differs(before, place);
          expect(before[d] ?? 0).toBeLessThan(place[d] ?? 0);
        }
      }),
    );
  });

  test.each([
    ["a Buffer, whose slice() is a view", () => Buffer.from([1, 2, 4, 8])],
    ["a view into the middle of a buffer", () => new Uint8Array([0, 1, 2, 4, 8]).subarray(1)],
    [
      "a subclass",
      () =>
        new (class Scores extends Uint8Array {
          override slice(): never {
            throw new Error("not to be called");
          }
        })([1, 2, 4, 8]),
    ],
  ])("a sum has its own values: %s", (_, valuesOf) => {
    const [values, others] = [valuesOf(), valuesOf()];
    const tensor = sparseTensor({ indices: [[3, 3, 1, 0]], values, shape: [5] });
    const other = sparseTensor({ indices: [[0, 1, 2, 3]], values: others, shape: [5] });
    const once = tensor.coalesce();
    expect([...once.values]).toEqual([8, 4, 3]);
    const sum = sumOfSparse([tensor, other, tensor]);
    expect([...sum.values]).toEqual([17, 10, 4, 14]);
    for (const { values: own, indices } of [once, sum, other.coalesce()]) {
      expect(own.constructor).toBe(Uint8Array);
      own.fill(99);
      indices.fill(0n);
    }
    expect([...values]).toEqual([1, 2, 4, 8]);
    expect([...others]).toEqual([1, 2, 4, 8]);
    expect([...tensor.indices]).toEqual([3n, 3n, 1n, 0n]);
  });

  const bad: [string, Partial<Record<keyof SparseTensorInit, unknown>>, string][] = [
    ["an index outside", { indices: [[3]] }, "index 3 of dimension 0 is not in 0..2"],
    ["a negative index", { indices: new BigInt64Array([-1n]) }, "index -1 of dimension 0"],
    ["no index", { indices: [[0.5]] }, "0.5 is not an index"],
    ["too many values", { values: new Float32Array(2) }, "1 indices of blocks of 1 need 1 values, got 2"],
    ["rows of unequal length", { indices: [[0, 1], [0]], shape: [3, 3] }, "2 rows of equal length, got rows of 2, 1"],
    ["too few rows", { shape: [3, 3] }, "indices need 2 rows"],
    ["five sparse dimensions", { shape: [3, 3, 3, 3, 3] }, "1 to 4 dimensions can be sparse, got 5"],
    ["five dense dimensions", { shape: [3, 1, 1, 1, 1, 1], sparseDims: 1 }, "0 to 4 dimensions can be dense"],
    ["no sparse dimension", { sparseDims: 0 }, "1 to 4 dimensions can be sparse, got 0"],
    ["values that cannot be summed", { values: new Float16Array(1) }, "values must be a TypedArray of float32"],
    ["values that are not a TypedArray", { values: [1] }, "values must be a TypedArray of float32"],
    ["no shape", { shape: undefined }, "shape must be a list of sizes, got undefined"],
    [
      "no indices",
      { indices: undefined },
      "indices must be a list with a row for each sparse dimension, got undefined",
    ],
    ["indices without rows", { indices: [0] }, "indices must be a list with a row for each sparse dimension"],
    ["an invalid size", { shape: [-1] }, "shape [-1] has an invalid size"],
  ];
  test.each(bad)("refuses %s", (_, change, message) => {
    const init = { indices: [[0]], values: new Float32Array(1), shape: [3], ...change };
    expect(() => sparseTensor(init as SparseTensorInit)).toThrow(message);
  });

  test("refuses a call without an object", () => {
    expect(() => sparseTensor(undefined as unknown as SparseTensorInit)).toThrow("takes { indices, values, shape }");
  });

  test("the sum is that of the dense tensors, each index once and in order", () => {
    const cell = fc.record({ row: fc.nat(3), column: fc.nat(4), value: fc.integer({ min: -9, max: 9 }) });
    fc.assert(
      fc.property(fc.array(fc.array(cell), { minLength: 1, maxLength: 4 }), (lists) => {
        const tensors = lists.map((cells) =>
          sparseTensor({
            indices: [cells.map(({ row }) => row), cells.map(({ column }) => column)],
            values: Int32Array.from(cells, ({ value }) => value),
            shape: [4, 5],
          }),
        );
        const sum = sumOfSparse(tensors);
        const expected = tensors.map(dense).reduce((total, each) => total.map((value, i) => value + (each[i] ?? 0)));
        expect(dense(sum)).toEqual(expected);
        const places = Array.from(
          { length: sum.nnz },
          (_, i) => Number(sum.indices[i]) * 5 + Number(sum.indices[sum.nnz + i]),
        );
        expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
      }),
    );
  });
});
