import { countsOf, SPARSE_HEADER_LENGTH, sparseHeaderOf, splitSparse } from "../../collectives/index.ts";
import { type SparseTensor, type SparseValues, sumOfSparse, viewTensor } from "../../tensor/index.ts";
import type { Steps } from "../../work/index.ts";
import type { SubmitStep } from "./submit-step.ts";

/**
 * Sum of the sparse tensors of all ranks: the ranks exchange how many values they have, gather all values, and each
 * adds them up in rank order.
 */
export function* allReduceSparse(
  own: SparseTensor,
  rank: number,
  size: number,
  submit: SubmitStep,
): Steps<SparseTensor> {
  const all = new BigInt64Array(size * SPARSE_HEADER_LENGTH);
  yield submit("allReduceSparse", [viewTensor(sparseHeaderOf(own))], [viewTensor(all)]);
  const counts = countsOf(all, rank, own);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const indices = new BigInt64Array(total * own.sparseDims);
  const values = new (own.values.constructor as new (length: number) => SparseValues)(total * own.blockLength);
  if (total > 0) {
    yield submit(
      "allReduceSparse",
      [viewTensor(own.indices), viewTensor(own.values)],
      [viewTensor(indices), viewTensor(values)],
      { inputSplits: counts, outputSplits: counts, continuation: true },
    );
  }
  return sumOfSparse(splitSparse(own, counts, indices, values));
}
