import { DistBackendError } from "../errors/index.ts";
import { MAX_SPARSE_DIMS, SparseTensor, type SparseValues } from "../tensor/index.ts";

/** Count of the numbers by which a rank describes its sparse tensor: sizes of sparse and dense dimensions, nnz. */
export const SPARSE_HEADER_LENGTH = 2 * MAX_SPARSE_DIMS + 1;

/** Maximum size of an ArrayBuffer. */
const MAX_BYTES = 2 ** 32;

const described = new WeakMap<object, SparseTensor>();

/** The tensor that a header of this rank describes, for layers that see only the header. */
export function sparseOf(header: object): SparseTensor | undefined {
  return described.get(header);
}

/** What a rank sends to the others before a sparse all-reduce, in PyTorch's layout. */
export function sparseHeaderOf(tensor: SparseTensor): BigInt64Array {
  const { shape, sparseDims, nnz } = tensor;
  const header = new BigInt64Array(SPARSE_HEADER_LENGTH);
  for (const [i, size] of shape.entries()) header[i < sparseDims ? i : MAX_SPARSE_DIMS + i - sparseDims] = BigInt(size);
  header[SPARSE_HEADER_LENGTH - 1] = BigInt(nnz);
  described.set(header, tensor);
  return header;
}

/**
 * How many values each rank has.
 * @param all The header of all ranks, in rank order.
 * @param own The tensor of this rank.
 * @throws DistBackendError, on all ranks, if the tensors differ in shape, or if together they are larger than an array
 *   can be.
 */
export function countsOf(all: BigInt64Array, rank: number, own: SparseTensor): number[] {
  const ranks = all.length / SPARSE_HEADER_LENGTH;
  const of = (each: number) => all.subarray(each * SPARSE_HEADER_LENGTH, (each + 1) * SPARSE_HEADER_LENGTH);
  const text = (each: number) => of(each).subarray(0, -1).join(", ");
  const counts = Array.from({ length: ranks }, (_, each) => {
    if (text(each) !== text(0)) {
      throw new DistBackendError(
        `allReduce: sparse tensors do not match: rank 0 has dimensions [${text(0)}], rank ${each} has [${text(each)}] ` +
          `(${MAX_SPARSE_DIMS} sparse ones, then ${MAX_SPARSE_DIMS} dense ones, 0 for none)`,
        { op: "allReduce", code: "SPARSE_MISMATCH", rank, peers: [each] },
      );
    }
    return of(each)[SPARSE_HEADER_LENGTH - 1] ?? 0n;
  });
  requireRoom(own, counts, rank);
  return counts.map(Number);
}

/** Checks the counts that peers announce, since they determine how much is allocated. */
function requireRoom(own: SparseTensor, counts: readonly bigint[], rank: number): void {
  const negative = counts.findIndex((count) => count < 0n);
  const total = counts.reduce((sum, count) => sum + count, 0n);
  const { blockLength, sparseDims, indices, values } = own;
  const bytes = Math.max(sparseDims * indices.BYTES_PER_ELEMENT, blockLength * values.BYTES_PER_ELEMENT);
  if (negative < 0 && Number(total) * bytes <= MAX_BYTES) return;
  const reason =
    negative < 0
      ? `all ranks together list ${total} indices of blocks of ${blockLength} values, more than one array can hold`
      : `rank ${negative} announces ${counts[negative]} indices`;
  throw new DistBackendError(`allReduce: sparse tensors cannot be added: ${reason}`, {
    op: "allReduce",
    code: "SPARSE_TOO_LARGE",
    rank,
  });
}

/** The tensors of all ranks, as views of their joined indices and values. */
export function splitSparse<V extends SparseValues>(
  like: SparseTensor<V>,
  counts: readonly number[],
  indices: BigInt64Array,
  values: V,
): SparseTensor<V>[] {
  const { shape, sparseDims, blockLength } = like;
  let at = 0;
  return counts.map((count) => {
    const part = new SparseTensor<V>({
      indices: indices.subarray(at * sparseDims, (at + count) * sparseDims),
      values: values.subarray(at * blockLength, (at + count) * blockLength) as V,
      shape,
      sparseDims,
    });
    at += count;
    return part;
  });
}
