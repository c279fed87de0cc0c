// Products of a matrix with one of few columns. All matrices are row-major; sums are in float64 and rounded once.

/** Arrays whose elements are numbers. */
export type Floats = Float32Array | Float64Array | Float16Array;

/** Memory for intermediate results, which grows to what was needed most. */
export class Scratch {
  #memory = new Float64Array(0);

  /** `length` elements of any content; those of the call before are lost. */
  take(length: number): Float64Array {
    if (this.#memory.length < length) this.#memory = new Float64Array(length);
    return this.#memory.subarray(0, length);
  }
}

/** A matrix of `rows` × `columns`, and how many columns P and Q have that take its place. */
export interface MatrixShape {
  readonly rows: number;
  readonly columns: number;
  readonly rank: number;
}

/** P = M Q. */
export function multiply(p: Floats, matrix: Floats, q: Floats, { rows, columns, rank }: MatrixShape): void {
  for (let i = 0; i < rows; i++) {
    const start = i * columns;
    let j = 0;
    for (; j + 4 <= rank; j += 4) fourProducts(p, i * rank + j, matrix, start, q, j, columns, rank);
    for (; j < rank; j++) p[i * rank + j] = product(matrix, start, q, j, columns, rank);
  }
}

/** A row of the matrix times column `j` of Q, in four sums that do not wait for each other. */
function product(matrix: Floats, start: number, q: Floats, j: number, columns: number, rank: number): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let k = 0;
  let at = j;
  for (; k + 4 <= columns; k += 4) {
    const from = start + k;
    a += (matrix[from] as number) * (q[at] as number);
    b += (matrix[from + 1] as number) * (q[at + rank] as number);
    c += (matrix[from + 2] as number) * (q[at + 2 * rank] as number);
    d += (matrix[from + 3] as number) * (q[at + 3 * rank] as number);
    at += 4 * rank;
  }
  for (; k < columns; k++) {
    a += (matrix[start + k] as number) * (q[at] as number);
    at += rank;
  }
  return a + b + (c + d);
}

/** A row of the matrix times columns `j` to `j + 3` of Q. */
function fourProducts(
  p: Floats,
  to: number,
  matrix: Floats,
  start: number,
  q: Floats,
  j: number,
  columns: number,
  rank: number,
): void {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let at = j;
  for (let k = 0; k < columns; k++) {
    const value = matrix[start + k] as number;
    a += value * (q[at] as number);
    b += value * (q[at + 1] as number);
    c += value * (q[at + 2] as number);
    d += value * (q[at + 3] as number);
    at += rank;
  }
  p[to] = a;
  p[to + 1] = b;
  p[to + 2] = c;
  p[to + 3] = d;
}

/** Q = Mᵀ P. */
export function multiplyTransposed(
  q: Floats,
  matrix: Floats,
  p: Floats,
  { rows, columns, rank }: MatrixShape,
  scratch: Scratch,
): void {
  const sums = scratch.take(columns * rank).fill(0);
  // Row by row, since that is how the matrix lies in memory.
  for (let i = 0; i < rows; i++) {
    const start = i * columns;
    let j = 0;
    for (; j + 4 <= rank; j += 4) addFourProducts(sums, j, matrix, start, p, i * rank + j, columns, rank);
    for (; j < rank; j++) {
      const factor = p[i * rank + j] as number;
      let at = j;
      for (let k = 0; k < columns; k++) {
        sums[at] = (sums[at] as number) + (matrix[start + k] as number) * factor;
        at += rank;
      }
    }
  }
  for (let k = 0; k < sums.length; k++) q[k] = sums[k] as number;
}

/** Adds a row of the matrix times four elements of P to columns `j` to `j + 3` of the sums. */
function addFourProducts(
  sums: Float64Array,
  j: number,
  matrix: Floats,
  start: number,
  p: Floats,
  from: number,
  columns: number,
  rank: number,
): void {
  const a = p[from] as number;
  const b = p[from + 1] as number;
  const c = p[from + 2] as number;
  const d = p[from + 3] as number;
  let at = j;
  for (let k = 0; k < columns; k++) {
    const value = matrix[start + k] as number;
    sums[at] = (sums[at] as number) + value * a;
    sums[at + 1] = (sums[at + 1] as number) + value * b;
    sums[at + 2] = (sums[at + 2] as number) + value * c;
    sums[at + 3] = (sums[at + 3] as number) + value * d;
    at += rank;
  }
}

/** M = P Qᵀ. */
export function expand(matrix: Floats, p: Floats, q: Floats, { rows, columns, rank }: MatrixShape): void {
  let to = 0;
  for (let i = 0; i < rows; i++) {
    const start = i * rank;
    if (rank === 1) {
      const factor = p[i] as number;
      for (let k = 0; k < columns; k++) matrix[to++] = factor * (q[k] as number);
      continue;
    }
    let from = 0;
    for (let k = 0; k < columns; k++) {
      let sum = 0;
      for (let j = 0; j < rank; j++) sum += (p[start + j] as number) * (q[from++] as number);
      matrix[to++] = sum;
    }
  }
}
