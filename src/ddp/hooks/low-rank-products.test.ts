import { describe, expect, test } from "bun:test";
import { noise } from "./fixtures/given-gradients.ts";
import { expand, multiply, multiplyTransposed, Scratch } from "./low-rank-products.ts";

/** Rows times columns, row-major, as the definition has it. */
function product(a: Float64Array, b: Float64Array, rows: number, inner: number, columns: number): number[] {
  return Array.from({ length: rows * columns }, (_, at) => {
    const [i, j] = [Math.floor(at / columns), at % columns];
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += (a[i * inner + k] ?? 0) * (b[k * columns + j] ?? 0);
    return sum;
  });
}

function transposed(matrix: Float64Array, rows: number, columns: number): Float64Array {
  return Float64Array.from(matrix, (_, at) => matrix[(at % rows) * columns + Math.floor(at / rows)] ?? 0);
}

const random = (length: number, seed: number) => Float64Array.from({ length }, (_, i) => noise(i, seed));

function expectClose(ours: ArrayLike<number>, expected: readonly number[]): void {
  expect(ours).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(ours[i]).toBeCloseTo(value, 12);
}

const scratch = new Scratch();
const shapes = [
  [1, 1, 1],
  [3, 5, 1],
  [7, 9, 2],
  [6, 8, 3],
  [9, 7, 4],
  [11, 6, 5],
  [12, 13, 9],
] as const;

describe.each(shapes)("%d × %d, rank %d", (rows, columns, rank) => {
  const shape = { rows, columns, rank };
  const m = random(rows * columns, 1);
  const p = random(rows * rank, 2);
  const q = random(columns * rank, 3);

  test("MQ", () => {
    const result = new Float64Array(rows * rank);
    multiply(result, m, q, shape);
    expectClose(result, product(m, q, rows, columns, rank));
  });

  test("MᵀP", () => {
    const result = new Float64Array(columns * rank).fill(7);
    multiplyTransposed(result, m, p, shape, scratch);
    expectClose(result, product(transposed(m, rows, columns), p, columns, rows, rank));
  });

  test("PQᵀ", () => {
    const result = new Float64Array(rows * columns);
    expand(result, p, q, shape);
    expectClose(result, product(p, transposed(q, columns, rank), rows, rank, columns));
  });
});

test("sums are rounded once", () => {
  // In float32 the small terms would be lost one by one.
  const matrix = Float32Array.of(2 ** 24, 1, 1, 1, 1, 1);
  const p = new Float32Array(1);
  multiply(p, matrix, new Float32Array(6).fill(1), { rows: 1, columns: 6, rank: 1 });
  expect(p[0]).toBe(2 ** 24 + 4);
});
