import { isBigInt64Array } from "node:util/types";
import { brand, describe, InvalidArgumentError } from "../errors/index.ts";
import { type DType, dtypes } from "./dtype.ts";
import { byteLengthOf } from "./memory.ts";
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

/** Parameters of {@link sparseTensor}. */
export interface SparseTensorInit<V extends SparseValues = SparseValues> {
  /** Indices of the values: one row per sparse dimension, each with an index per value, row by row. */
  readonly indices: BigInt64Array | readonly (readonly number[])[];
  /** Number of values times the product of the dense dimensions. */
  readonly values: V;
  readonly shape: readonly number[];
  /** Number of leading dimensions that the indices cover; the others are dense. All of `shape` by default. */
  readonly sparseDims?: number;
}

const valueTypes: { readonly [dtype in DType]?: new (length: number) => SparseValues } = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
};

/** dtypes of {@link SparseValues}. */
export const sparseDTypes = Object.keys(valueTypes) as readonly DType[];

/** Maximum number of sparse and of dense dimensions: the layout that ranks exchange has room for no more. */
export const MAX_SPARSE_DIMS = 4;

/**
 * A sparse CPU tensor in coordinate format (COO): elements that are not listed are 0. An index may be listed several
 * times; its values then add up.
 *
 * c10d: `torch.sparse_coo_tensor`.
 */
export class SparseTensor<V extends SparseValues = SparseValues> {
  static {
    brand(SparseTensor, "SparseTensor");
  }
  readonly shape: readonly number[];
  readonly sparseDims: number;
  readonly dtype: DType;
  /** One row per sparse dimension, each with {@link nnz} indices. */
  readonly indices: BigInt64Array;
  /** {@link nnz} blocks of the dense dimensions. */
  readonly values: V;

  constructor(init: SparseTensorInit<V>) {
    if (typeof init !== "object" || init === null) {
      refuse("init", `it takes { indices, values, shape }, got ${describe(init)}`);
    }
    const { indices, values, shape } = init;
    const dtype = dtypeOfValues(values);
    if (!Array.isArray(shape)) refuse("shape", `shape must be a list of sizes, got ${describe(shape)}`);
    const sparseDims = init.sparseDims ?? shape.length;
    if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0)) refuse("shape", `shape [${shape}] has an invalid size`);
    const denseDims = shape.length - sparseDims;
    if (!Number.isInteger(sparseDims) || sparseDims < 1 || sparseDims > MAX_SPARSE_DIMS) {
      refuse("sparseDims", `1 to ${MAX_SPARSE_DIMS} dimensions can be sparse, got ${sparseDims}`);
    }
    if (denseDims < 0 || denseDims > MAX_SPARSE_DIMS) {
      refuse("shape", `0 to ${MAX_SPARSE_DIMS} dimensions can be dense, shape [${shape}] leaves ${denseDims}`);
    }
    const block = shape.slice(sparseDims).reduce((product, n) => product * n, 1);
    const flat = isBigInt64Array(indices) ? indices : flatten(indices, sparseDims);
    const nnz = lengthOf(flat) / sparseDims;
    if (!Number.isInteger(nnz)) refuse("indices", `${lengthOf(flat)} indices do not form ${sparseDims} rows`);
    const count = byteLengthOf(values) / dtypes[dtype].size;
    if (count !== nnz * block) {
      refuse("values", `${nnz} indices of blocks of ${block} need ${nnz * block} values, got ${count}`);
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
    return lengthOf(this.indices) / this.sparseDims;
  }

  /** Number of values at an index: the product of the dense dimensions. */
  get blockLength(): number {
    return this.shape.slice(this.sparseDims).reduce((product, n) => product * n, 1);
  }

  /** The same tensor with each index once, in row-major order; the values of an index are added in their order. */
  coalesce(): SparseTensor<V> {
    return sumOfSparse([this]);
  }
}

function refuse(argument: string, reason: string): never {
  throw new InvalidArgumentError(`sparseTensor(): ${reason}`, { argument });
}

/** By the engine's getter: an own property may override `length`. */
function lengthOf(indices: BigInt64Array): number {
  return byteLengthOf(indices) / 8;
}

function dtypeOfValues(values: SparseValues): DType {
  const dtype = dtypeOfArray(values);
  if (dtype !== undefined && sparseDTypes.includes(dtype)) return dtype;
  return refuse("values", `values must be a TypedArray of ${sparseDTypes.join(", ")}`);
}

/** Creates a {@link SparseTensor}. Throws InvalidArgumentError when indices, values and shape do not match. */
export function sparseTensor<V extends SparseValues>(init: SparseTensorInit<V>): SparseTensor<V> {
  return new SparseTensor(init);
}

/**
 * Sum of sparse tensors of the same shape and dtype, with each index once and in order. Each is coalesced first, then
 * they are added in the order of the list, so all ranks that add the same list get the same bits. The tensors are not
 * changed.
 */
export function sumOfSparse<V extends SparseValues>(tensors: readonly SparseTensor<V>[]): SparseTensor<V> {
  const [first] = tensors;
  if (first === undefined) throw new InvalidArgumentError("sumOfSparse(): an empty list of tensors");
  const { shape, sparseDims, blockLength, dtype } = first;
  const parts = tensors.map((tensor) => ({ tensor, ...distinctPlaces(tensor) }));
  const all = parts.length === 1 ? parts[0]?.places : new Set(parts.flatMap(({ places }) => places));
  const sorted = [...(all ?? [])].sort((a, b) => (a < b ? -1 : 1));
  const positions = new Map(sorted.map((place, position) => [place, position]));
  const indices = new BigInt64Array(sorted.length * sparseDims);
  const values = emptyValues<V>(dtype, sorted.length * blockLength);
  const isFilled = new Uint8Array(sorted.length);
  for (const { tensor, places, firsts, slots } of parts) {
    const own = ownValues(tensor, firsts, slots);
    for (const [slot, place] of places.entries()) {
      const position = positions.get(place) ?? 0;
      const combine = isFilled[position] === 0 ? copyBlock : addBlock;
      combine(values, position * blockLength, own, slot * blockLength, blockLength);
      if (isFilled[position] === 1) continue;
      isFilled[position] = 1;
      for (let d = 0; d < sparseDims; d++) {
        indices[d * sorted.length + position] = tensor.indices[d * tensor.nnz + (firsts[slot] ?? 0)] ?? 0n;
      }
    }
  }
  return new SparseTensor({ indices, values, shape, sparseDims });
}

/** Place of an element in a dense tensor. */
type Place = number | bigint;

interface DistinctPlaces {
  /** Each place once, in the order in which they are first listed. */
  readonly places: Place[];
  /** Position in the list where each of them is first listed. */
  readonly firsts: number[];
  /** Which of the places each listed index is at. */
  readonly slots: Uint32Array;
}

function distinctPlaces(tensor: SparseTensor): DistinctPlaces {
  const places: Place[] = [];
  const firsts: number[] = [];
  const slots = new Uint32Array(tensor.nnz);
  const known = new Map<Place, number>();
  const listed = placesOf(tensor);
  for (let i = 0; i < slots.length; i++) {
    const place = listed[i] ?? 0;
    let slot = known.get(place);
    if (slot === undefined) {
      slot = places.length;
      known.set(place, slot);
      places.push(place);
      firsts.push(i);
    }
    slots[i] = slot;
  }
  return { places, firsts, slots };
}

/** The place of each listed index: as numbers if these are exact, else as bigints, which are several times slower. */
function placesOf({ indices, shape, sparseDims, nnz }: SparseTensor): Float64Array | bigint[] {
  const sizes = shape.slice(0, sparseDims);
  if (sizes.reduce((product, n) => product * n, 1) > Number.MAX_SAFE_INTEGER) {
    const wide = sizes.map(BigInt);
    return Array.from({ length: nnz }, (_, i) =>
      wide.reduce((place, size, d) => place * size + (indices[d * nnz + i] ?? 0n), 0n),
    );
  }
  const places = new Float64Array(nnz);
  for (const [d, size] of sizes.entries()) {
    for (let i = 0; i < nnz; i++) places[i] = (places[i] ?? 0) * size + Number(indices[d * nnz + i]);
  }
  return places;
}

/** The values of a tensor by distinct place; its own array if each place is listed once. */
function ownValues<V extends SparseValues>(
  { values, blockLength, nnz, dtype }: SparseTensor<V>,
  firsts: readonly number[],
  slots: Uint32Array,
): V {
  if (firsts.length === nnz) return values;
  const sums = emptyValues<V>(dtype, firsts.length * blockLength);
  for (let i = 0; i < nnz; i++) {
    const slot = slots[i] ?? 0;
    const combine = firsts[slot] === i ? copyBlock : addBlock;
    combine(sums, slot * blockLength, values, i * blockLength, blockLength);
  }
  return sums;
}

function copyBlock(sums: SparseValues, to: number, terms: SparseValues, from: number, length: number): void {
  // Not `subarray` and `set`, which are slower for short blocks.
  for (let i = 0; i < length; i++) sums[to + i] = terms[from + i] ?? 0;
}

function addBlock(sums: SparseValues, to: number, terms: SparseValues, from: number, length: number): void {
  if (sums instanceof BigInt64Array) {
    for (let i = 0; i < length; i++) sums[to + i] = (sums[to + i] ?? 0n) + BigInt(terms[from + i] ?? 0);
  } else {
    for (let i = 0; i < length; i++) sums[to + i] = (sums[to + i] ?? 0) + Number(terms[from + i]);
  }
}

/** By dtype and not by the caller's constructor, which may be a Buffer's or any subclass's. */
function emptyValues<V extends SparseValues>(dtype: DType, length: number): V {
  const type = valueTypes[dtype];
  if (type === undefined) return refuse("values", `sparse tensors of ${dtype} are not supported`);
  return new type(length) as V;
}

function flatten(rows: readonly (readonly number[])[], sparseDims: number): BigInt64Array {
  if (!Array.isArray(rows) || !rows.every((row) => Array.isArray(row))) {
    refuse("indices", `indices must be a list with a row for each sparse dimension, got ${describe(rows)}`);
  }
  const [first = []] = rows;
  if (rows.length !== sparseDims || rows.some((row) => row.length !== first.length)) {
    throw new InvalidArgumentError(
      `sparseTensor(): indices need ${sparseDims} rows of equal length, got rows of ${rows.map((row) => row.length).join(", ")}`,
      { argument: "indices" },
    );
  }
  const wrong = rows.flat().find((index) => !Number.isSafeInteger(index));
  if (wrong !== undefined) {
    throw new InvalidArgumentError(`sparseTensor(): ${wrong} is not an index`, { argument: "indices" });
  }
  return BigInt64Array.from(rows.flat(), BigInt);
}
