import { InvalidArgumentError } from "../errors/index.ts";
import type { DType } from "./dtype.ts";
import { dtypeOfArray } from "./tensor-view.ts";

/** Arrays that can hold the values of a {@link SparseTensor}. */
export type SparseValues =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Int32Array
  | BigInt64Array;

/** What {@link sparseTensor} takes. */
export interface SparseTensorInit<V extends SparseValues = SparseValues> {
  /** Where the values are: one row per sparse dimension, each with an index per value, row by row. */
  readonly indices: BigInt64Array | readonly (readonly number[])[];
  /** Number of values times the product of the dense dimensions. */
  readonly values: V;
  readonly shape: readonly number[];
  /** Leading dimensions that the indices cover; the others are dense. All of `shape` by default. */
  readonly sparseDims?: number;
}

/** dtypes of {@link SparseValues}. */
export const sparseDTypes: readonly DType[] = ["float32", "float64", "int8", "uint8", "int16", "int32", "int64"];

/** Sparse and dense dimensions are at most this many each, which is what ranks can tell each other. */
export const MAX_SPARSE_DIMS = 4;

/**
 * A sparse CPU tensor in coordinate form (COO): what is not listed is 0. An index may be listed several times; its values
 * then add up.
 *
 * c10d: `torch.sparse_coo_tensor`.
 */
export class SparseTensor<V extends SparseValues = SparseValues> {
  readonly shape: readonly number[];
  readonly sparseDims: number;
  readonly dtype: DType;
  /** One row per sparse dimension, each with {@link nnz} indices. */
  readonly indices: BigInt64Array;
  /** {@link nnz} blocks of the dense dimensions. */
  readonly values: V;

  constructor({ indices, values, shape, sparseDims = shape.length }: SparseTensorInit<V>) {
    const dtype = dtypeOfValues(values);
    if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0)) refuse("shape", `shape [${shape}] has no sizes`);
    const denseDims = shape.length - sparseDims;
    if (!Number.isInteger(sparseDims) || sparseDims < 1 || sparseDims > MAX_SPARSE_DIMS) {
      refuse("sparseDims", `1 to ${MAX_SPARSE_DIMS} dimensions can be sparse, got ${sparseDims}`);
    }
    if (denseDims < 0 || denseDims > MAX_SPARSE_DIMS) {
      refuse("shape", `0 to ${MAX_SPARSE_DIMS} dimensions can be dense, shape [${shape}] leaves ${denseDims}`);
    }
    const block = shape.slice(sparseDims).reduce((product, n) => product * n, 1);
    const flat = indices instanceof BigInt64Array ? indices : flatten(indices, sparseDims);
    const nnz = flat.length / sparseDims;
    if (!Number.isInteger(nnz)) refuse("indices", `${flat.length} indices are no ${sparseDims} rows`);
    if (values.length !== nnz * block) {
      refuse("values", `${nnz} indices of blocks of ${block} need ${nnz * block} values, got ${values.length}`);
    }
    for (const [i, index] of flat.entries()) {
      const dimension = Math.floor(i / nnz);
      if (index < 0n || index >= BigInt(shape[dimension] ?? 0)) {
        refuse("indices", `index ${index} of dimension ${dimension} is not in 0..${(shape[dimension] ?? 0) - 1}`);
      }
    }
    this.shape = [...shape];
    this.sparseDims = sparseDims;
    this.dtype = dtype;
    this.indices = flat;
    this.values = values;
  }

  /** Number of listed indices. */
  get nnz(): number {
    return this.indices.length / this.sparseDims;
  }

  /** Number of values at an index: the product of the dense dimensions. */
  get blockLength(): number {
    return this.shape.slice(this.sparseDims).reduce((product, n) => product * n, 1);
  }

  /** The same with each index once, in the order of a dense tensor; values of an index are added in their order. */
  coalesce(): SparseTensor<V> {
    return sumOfSparse([this]);
  }
}

function refuse(argument: string, reason: string): never {
  throw new InvalidArgumentError(`sparseTensor(): ${reason}`, { argument });
}

function dtypeOfValues(values: SparseValues): DType {
  const dtype = dtypeOfArray(values);
  if (dtype !== undefined && sparseDTypes.includes(dtype)) return dtype;
  return refuse("values", `values must be a TypedArray of ${sparseDTypes.join(", ")}`);
}

/** Makes a {@link SparseTensor}. Throws InvalidArgumentError when the parts do not fit together. */
export function sparseTensor<V extends SparseValues>(init: SparseTensorInit<V>): SparseTensor<V> {
  return new SparseTensor(init);
}

/**
 * Sum of sparse tensors of one shape and dtype, with each index once and in order. Each is coalesced first, then they are
 * added in the order of the list, so everyone who adds the same list gets the same bits.
 */
export function sumOfSparse<V extends SparseValues>(tensors: readonly SparseTensor<V>[]): SparseTensor<V> {
  const [first] = tensors;
  if (first === undefined) throw new InvalidArgumentError("sumOfSparse(): an empty list of tensors");
  const { shape, sparseDims, blockLength } = first;
  const sums = new Map<number, V>();
  for (const tensor of tensors) {
    for (const [place, own] of blocksOf(tensor)) {
      const sum = sums.get(place);
      if (sum === undefined) sums.set(place, own);
      else add(sum, own);
    }
  }
  const places = [...sums.keys()].sort((a, b) => a - b);
  const indices = new BigInt64Array(places.length * sparseDims);
  const values = emptyLike(first.values, places.length * blockLength);
  for (const [i, place] of places.entries()) {
    let rest = place;
    for (let dimension = sparseDims - 1; dimension >= 0; dimension--) {
      const size = shape[dimension] ?? 1;
      indices[dimension * places.length + i] = BigInt(rest % size);
      rest = Math.floor(rest / size);
    }
    const block = sums.get(place);
    if (block !== undefined) set(values, block, i * blockLength);
  }
  return new SparseTensor({ indices, values, shape, sparseDims });
}

/** The values of each index, by its place in a dense tensor. */
function blocksOf<V extends SparseValues>({ indices, values, shape, sparseDims, nnz, blockLength }: SparseTensor<V>) {
  const blocks = new Map<number, V>();
  for (let i = 0; i < nnz; i++) {
    let place = 0;
    for (let dimension = 0; dimension < sparseDims; dimension++) {
      place = place * (shape[dimension] ?? 1) + Number(indices[dimension * nnz + i]);
    }
    const block = values.slice(i * blockLength, (i + 1) * blockLength) as V;
    const sum = blocks.get(place);
    if (sum === undefined) blocks.set(place, block);
    else add(sum, block);
  }
  return blocks;
}

function add(sum: SparseValues, terms: SparseValues): void {
  if (sum instanceof BigInt64Array) {
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0n) + BigInt(terms[i] ?? 0);
  } else {
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + Number(terms[i]);
  }
}

function emptyLike<V extends SparseValues>(values: V, length: number): V {
  const type = values.constructor as new (length: number) => V;
  return new type(length);
}

function set(values: SparseValues, block: SparseValues, at: number): void {
  if (values instanceof BigInt64Array) values.set(block as BigInt64Array, at);
  else values.set(block as Exclude<SparseValues, BigInt64Array>, at);
}

function flatten(rows: readonly (readonly number[])[], sparseDims: number): BigInt64Array {
  const [first = []] = rows;
  if (rows.length !== sparseDims || rows.some((row) => row.length !== first.length)) {
    throw new InvalidArgumentError(
      `sparseTensor(): indices need ${sparseDims} rows of one length, got rows of ${rows.map((row) => row.length).join(", ")}`,
      { argument: "indices" },
    );
  }
  const wrong = rows.flat().find((index) => !Number.isSafeInteger(index));
  if (wrong !== undefined) {
    throw new InvalidArgumentError(`sparseTensor(): ${wrong} is no index`, { argument: "indices" });
  }
  return BigInt64Array.from(rows.flat(), BigInt);
}
