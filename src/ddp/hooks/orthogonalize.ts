import type { DType } from "../../tensor/index.ts";
import type { Floats, Scratch } from "./low-rank-products.ts";

/** Most columns that PyTorch makes orthogonal by the method of Gram and Schmidt. */
const FEW_COLUMNS = 2;

/**
 * Makes the columns of a row-major matrix orthogonal, of length 1, in place: by the method of Gram and Schmidt if there
 * are one or two or they are of half precision, and else by reflections, which may also turn their signs. That choice,
 * and the signs, are PyTorch's; ranks of both compute the same columns but for rounding.
 *
 * @param rank Number of columns, not more than rows.
 * @param epsilon Added to the length by which the method of Gram and Schmidt divides. With 0, a column of zeros becomes
 *   NaN.
 */
export function orthogonalize(
  matrix: Floats,
  rows: number,
  rank: number,
  dtype: DType,
  epsilon: number,
  scratch: Scratch,
): void {
  if (rank <= FEW_COLUMNS || dtype === "float16" || dtype === "bfloat16") gramSchmidt(matrix, rows, rank, epsilon);
  else reflect(matrix, rows, rank, scratch);
}

function gramSchmidt(matrix: Floats, rows: number, rank: number, epsilon: number): void {
  const end = rows * rank;
  for (let column = 0; column < rank; column++) {
    let squares = 0;
    for (let i = column; i < end; i += rank) squares += (matrix[i] as number) ** 2;
    const length = Math.sqrt(squares) + epsilon;
    for (let i = column; i < end; i += rank) matrix[i] = (matrix[i] as number) / length;
    for (let other = column + 1; other < rank; other++) {
      let common = 0;
      for (let i = 0; i < end; i += rank) common += (matrix[i + column] as number) * (matrix[i + other] as number);
      for (let i = 0; i < end; i += rank) {
        matrix[i + other] = (matrix[i + other] as number) - common * (matrix[i + column] as number);
      }
    }
  }
}

/** Q of a QR factorization by Householder's reflections, with LAPACK's signs. */
function reflect(matrix: Floats, rows: number, rank: number, scratch: Scratch): void {
  // Columns one after the other, and behind them the factor of each reflection.
  const memory = scratch.take(rows * rank + rank);
  const columns = Array.from({ length: rank }, (_, j) => memory.subarray(j * rows, (j + 1) * rows));
  const factors = memory.subarray(rows * rank);
  for (const [j, column] of columns.entries()) {
    for (let i = 0; i < rows; i++) column[i] = matrix[i * rank + j] as number;
  }
  for (const [j, column] of columns.entries()) {
    factors[j] = makeReflector(column, j);
    for (const other of columns.slice(j + 1)) applyReflector(column, factors[j] as number, other, j);
  }
  for (let j = rank - 1; j >= 0; j--) {
    const [column, factor] = [columns[j] as Float64Array, factors[j] as number];
    for (const other of columns.slice(j + 1)) applyReflector(column, factor, other, j);
    column.fill(0, 0, j);
    column[j] = 1 - factor;
    for (let i = j + 1; i < rows; i++) column[i] = (column[i] as number) * -factor;
  }
  for (const [j, column] of columns.entries()) {
    for (let i = 0; i < rows; i++) matrix[i * rank + j] = column[i] as number;
  }
}

/**
 * Replaces a column, from `start` + 1 on, by the vector of the reflection that makes zeros of these elements; its element
 * at `start` is 1. Returns the factor of the reflection, 0 if they are zeros already.
 */
function makeReflector(column: Float64Array, start: number): number {
  let squares = 0;
  for (let i = start + 1; i < column.length; i++) squares += (column[i] as number) ** 2;
  if (squares === 0) return 0;
  const first = column[start] as number;
  const length = Math.sqrt(first * first + squares);
  const kept = first < 0 ? length : -length;
  const scale = 1 / (first - kept);
  for (let i = start + 1; i < column.length; i++) column[i] = (column[i] as number) * scale;
  return (kept - first) / kept;
}

/** Reflects another column. */
function applyReflector(vector: Float64Array, factor: number, other: Float64Array, start: number): void {
  let common = other[start] as number;
  for (let i = start + 1; i < other.length; i++) common += (vector[i] as number) * (other[i] as number);
  const times = factor * common;
  other[start] = (other[start] as number) - times;
  for (let i = start + 1; i < other.length; i++) other[i] = (other[i] as number) - times * (vector[i] as number);
}
