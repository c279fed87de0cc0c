import { InvalidArgumentError } from "../errors/index.ts";
import { empty, SparseTensor, type SparseValues } from "../tensor/index.ts";
import type { Parameter } from "./parameter.ts";

/** A gradient of zeros: no element is listed. */
export function emptySparse({ dtype, shape }: Parameter): SparseTensor {
  const values = dtype === "float64" ? new Float64Array(0) : new Float32Array(0);
  return new SparseTensor<SparseValues>({ indices: new BigInt64Array(0), values, shape, sparseDims: 1 });
}

/** A sparse gradient divided by a number. The given one is not changed. */
export function scaledSparse(grad: SparseTensor, divisor: number): SparseTensor {
  const values = grad.values.slice() as Float32Array | Float64Array;
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) / divisor;
  const { indices, shape, sparseDims } = grad;
  return new SparseTensor<SparseValues>({ indices, values, shape, sparseDims });
}

/**
 * Sums sparse gradients of which all ranks know the rows: their blocks are all-reduced as one dense tensor.
 *
 * @param rows The rows that any rank may have, the same on all ranks, each once.
 * @param allReduce Sums a dense tensor over all ranks, in place.
 * @throws InvalidArgumentError for a gradient with another row, which would be lost.
 */
export async function sumOfRows(
  parameter: Parameter,
  grad: SparseTensor,
  rows: BigInt64Array,
  allReduce: (values: Float32Array | Float64Array) => PromiseLike<unknown>,
): Promise<SparseTensor> {
  const width = grad.blockLength;
  const length = rows.length * width;
  const values = grad.dtype === "float64" ? empty("float64", length) : empty("float32", length);
  const places = new Map(Array.from(rows, (row, place) => [row, place]));
  const own = grad.values as Float32Array | Float64Array;
  for (const [i, row] of grad.indices.entries()) {
    const place = places.get(row);
    if (place === undefined) {
      throw new InvalidArgumentError(
        `the gradient of ${parameter.name} has row ${row}, which is not among the ${rows.length} rows of setSparseMetadata()`,
        { argument: "gradient" },
      );
    }
    for (let j = 0; j < width; j++) {
      values[place * width + j] = (values[place * width + j] ?? 0) + (own[i * width + j] ?? 0);
    }
  }
  await allReduce(values);
  return new SparseTensor<SparseValues>({ indices: rows.slice(), values, shape: grad.shape, sparseDims: 1 });
}
