import { describe, expect, test } from "bun:test";
import { noise } from "./fixtures/given-gradients.ts";
import { Scratch } from "./low-rank-products.ts";
import { orthogonalize } from "./orthogonalize.ts";

const scratch = new Scratch();

/** Columns of a row-major matrix. */
function columnsOf(matrix: ArrayLike<number>, rank: number): number[][] {
  return Array.from({ length: rank }, (_, j) => Array.from(matrix).filter((_, at) => at % rank === j));
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

describe.each([1, 2, 3, 4, 6])("%d columns", (rank) => {
  const given = Float64Array.from({ length: 6 * rank }, (_, i) => noise(i, rank));
  const made = given.slice();
  orthogonalize(made, 6, rank, "float64", 0, scratch);
  const [before, after] = [columnsOf(given, rank), columnsOf(made, rank)];

  test("are of length 1, and at right angles", () => {
    for (const [i, a] of after.entries()) {
      for (const [j, b] of after.entries()) expect(dot(a, b)).toBeCloseTo(i === j ? 1 : 0, 12);
    }
  });

  test("span what the first ones spanned", () => {
    for (const [j, column] of before.entries()) {
      const rest = column.map((value, i) => {
        return value - after.slice(0, j + 1).reduce((sum, other) => sum + dot(column, other) * (other[i] ?? 0), 0);
      });
      expect(Math.sqrt(dot(rest, rest))).toBeCloseTo(0, 12);
    }
  });
});

test("up to two columns keep their sign, and more have that of torch.linalg.qr", () => {
  const two = Float64Array.of(3, 0, 4, 5);
  orthogonalize(two, 2, 2, "float64", 0, scratch);
  expect([...two].map((value) => Number(value.toFixed(12)))).toEqual([0.6, -0.8, 0.8, 0.6]);
  // Of torch.linalg.qr([[2, 0, 0], [0, -3, 0], [0, 0, 4], [0, 0, 3]]): the first column is multiplied by +1, where
  // nothing has to become zero, and the last one turned.
  const three = Float64Array.of(2, 0, 0, 0, -3, 0, 0, 0, 4, 0, 0, 3);
  orthogonalize(three, 4, 3, "float64", 0, scratch);
  expect([...three].map((value) => Number(value.toFixed(12)) + 0)).toEqual([1, 0, 0, 0, 1, 0, 0, 0, -0.8, 0, 0, -0.6]);
});

test("half precision has no QR in PyTorch: three columns keep their sign", () => {
  const three = Float16Array.of(2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 3);
  orthogonalize(three, 4, 3, "float16", 0, scratch);
  expect([three[0], three[4], three[8]]).toEqual([1, 1, Math.f16round(0.8)]);
});

test("a column of zeros becomes NaN without epsilon", () => {
  const zeros = new Float32Array(4);
  orthogonalize(zeros, 4, 1, "float32", 1e-8, scratch);
  expect([...zeros]).toEqual([0, 0, 0, 0]);
  orthogonalize(zeros, 4, 1, "float32", 0, scratch);
  expect([...zeros]).toEqual([Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
});
