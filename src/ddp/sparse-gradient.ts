import { SparseTensor, type SparseValues } from "../tensor/index.ts";
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
