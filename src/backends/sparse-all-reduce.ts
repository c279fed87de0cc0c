import { countsOf, SPARSE_TERMS, splitSparse, termsOf } from "../collectives/index.ts";
import type { OpOptions } from "../registry/index.ts";
import { type SparseTensor, type SparseValues, sumOfSparse } from "../tensor/index.ts";

/** How a backend exchanges what a sparse all-reduce is made of. Each step gets the time that is left. */
export interface SparseExchange {
  /** Fills `all` with what each rank gives, in the order of ranks. */
  terms(own: BigInt64Array, all: BigInt64Array, limits: OpOptions): PromiseLike<unknown>;
  /** Fills `indices` and `values` with those of all ranks, in the order of ranks; `counts` tells how many each has. */
  parts(
    own: SparseTensor,
    counts: readonly number[],
    indices: BigInt64Array,
    values: SparseValues,
    limits: OpOptions,
  ): PromiseLike<unknown>;
}

/**
 * Sum of the sparse tensors of all ranks: they tell each other how many values they have, gather them all, and each adds
 * them up in the order of ranks.
 */
export async function allReduceSparse(
  tensor: SparseTensor,
  rank: number,
  size: number,
  timeoutMs: number,
  exchange: SparseExchange,
): Promise<SparseTensor> {
  const deadline = performance.now() + timeoutMs;
  const limits = (): OpOptions => ({ timeoutMs: Math.max(1, deadline - performance.now()) });
  // Each index once: fewer to send, and the order in which values are added is that of ranks.
  const own = tensor.coalesce();
  const all = new BigInt64Array(size * SPARSE_TERMS);
  await exchange.terms(termsOf(own), all, limits());
  const counts = countsOf(all, rank, own);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const indices = new BigInt64Array(total * own.sparseDims);
  const values = new (own.values.constructor as new (length: number) => SparseValues)(total * own.blockLength);
  if (total > 0) await exchange.parts(own, counts, indices, values, limits());
  return sumOfSparse(splitSparse(own, counts, indices, values));
}
