import { describe, describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { dtypes, SparseTensor, type TensorLike, viewTensor } from "../tensor/index.ts";
import type { Logger } from "./logger.ts";
import { Parameter } from "./parameter.ts";

/** Which tensors share a bucket. */
export type BucketAssignment = readonly [
  /** For each bucket, the indices of its tensors. */
  buckets: number[][],
  /** For each bucket, the limit in bytes under which it was filled; 0 for that of a sparse gradient. */
  limits: number[],
];

/** Tensors that are being collected for one bucket. */
interface Collected {
  indices: number[];
  bytes: number;
  /** Index of the current limit. */
  cursor: number;
}

/**
 * Assigns tensors to buckets, in their order. Tensors of one dtype and device share a bucket until it has at least as
 * many bytes as the limit; its next bucket has the next limit, and those after the last limit have that one too. A tensor
 * with sparse gradients has a bucket of its own.
 *
 * @param limits Sizes of the first bucket, the second and so on, in bytes.
 * @param expectSparse For each tensor, whether its gradients are sparse. All are dense by default.
 * @param indices The numbers of the tensors in the result, by default their places in `tensors`. Without it, the buckets
 *   are ordered by their least index, else in the order in which they became full.
 * @param logger Gets the error.
 * @throws InvalidArgumentError for no tensors, sparse tensors, or lists of different lengths.
 *
 * ```ts
 * const [buckets, limits] = computeBucketAssignmentBySize([weight1, bias1, weight2], [1024, 4096]);
 * ```
 *
 * c10d: `_compute_bucket_assignment_by_size`.
 */
export function computeBucketAssignmentBySize(
  tensors: readonly (TensorLike | Parameter)[],
  limits: readonly number[],
  expectSparse: readonly boolean[] = [],
  indices: readonly number[] = [],
  logger?: Logger,
): BucketAssignment {
  try {
    requireLists(tensors, limits, expectSparse, indices);
    return assign(tensors, limits, expectSparse, indices);
  } catch (error) {
    logger?.setErrorAndLog(error);
    throw error;
  }
}

function assign(
  tensors: readonly (TensorLike | Parameter)[],
  limits: readonly number[],
  expectSparse: readonly boolean[],
  indices: readonly number[],
): BucketAssignment {
  const found: { readonly indices: number[]; readonly limit: number }[] = [];
  const collected = new Map<string, Collected>();
  const limitOf = ({ cursor }: Collected) => limits[cursor] ?? 0;
  for (const [place, tensor] of tensors.entries()) {
    const index = indices[place] ?? place;
    if (expectSparse[index] === true) {
      found.push({ indices: [index], limit: 0 });
      continue;
    }
    const { key, bytes } = sizeOf(tensor, place);
    const open = collected.get(key) ?? { indices: [], bytes: 0, cursor: 0 };
    collected.set(key, open);
    open.indices.push(index);
    open.bytes += bytes;
    if (open.bytes < limitOf(open)) continue;
    found.push({ indices: open.indices, limit: limitOf(open) });
    open.indices = [];
    open.bytes = 0;
    if (open.cursor < limits.length - 1) open.cursor++;
  }
  // Last in, first out, as PyTorch's hash map has them.
  for (const rest of [...collected.values()].reverse()) {
    if (rest.indices.length > 0) found.push({ indices: rest.indices, limit: limitOf(rest) });
  }
  if (indices.length === 0) found.sort((a, b) => Math.min(...a.indices) - Math.min(...b.indices));
  return [found.map((each) => each.indices), found.map(({ limit }) => limit)];
}

/** What may share a bucket has the same key. */
function sizeOf(tensor: TensorLike | Parameter, place: number): { readonly key: string; readonly bytes: number } {
  if (tensor instanceof SparseTensor) {
    throw new InvalidArgumentError(`No support for sparse tensors: tensor ${place} is one`, { argument: "tensors" });
  }
  const { dtype, device, length } = tensor instanceof Parameter ? tensor : viewTensor(tensor, `tensors[${place}]`);
  return { key: `${dtype} ${device.type}:${device.index}`, bytes: length * dtypes[dtype].size };
}

function requireLists(
  tensors: readonly unknown[],
  limits: readonly number[],
  expectSparse: readonly boolean[],
  indices: readonly number[],
): void {
  const refuse = (argument: string, reason: string): never => {
    throw new InvalidArgumentError(`computeBucketAssignmentBySize(): ${reason}`, { argument });
  };
  if (!Array.isArray(tensors) || tensors.length === 0) {
    refuse("tensors", `tensors must be a list of at least one tensor, got ${describe(tensors)}`);
  }
  if (!Array.isArray(limits) || limits.length === 0) {
    refuse("limits", `limits must be a list of at least one size in bytes, got ${describe(limits)}`);
  }
  // Above every size, such as Number.MAX_SAFE_INTEGER or Infinity, puts all tensors into one bucket.
  const wrong = limits.find((limit) => !(limit >= 1));
  if (wrong !== undefined) refuse("limits", `a limit is at least 1 byte, got ${describeNumber(wrong)}`);
  if (!Array.isArray(expectSparse) || (expectSparse.length !== 0 && expectSparse.length !== tensors.length)) {
    refuse(
      "expectSparse",
      `expectSparse must have one entry for each of ${tensors.length} tensors, got ${describe(expectSparse)}`,
    );
  }
  if (!Array.isArray(indices) || (indices.length !== 0 && indices.length !== tensors.length)) {
    refuse("indices", `indices must have one entry for each of ${tensors.length} tensors, got ${describe(indices)}`);
  }
  const odd = indices.find((index) => !Number.isSafeInteger(index) || index < 0);
  if (odd !== undefined) refuse("indices", `an index is an integer from 0 on, got ${describeNumber(odd)}`);
}
