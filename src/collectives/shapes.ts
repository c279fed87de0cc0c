import { describe, InvalidArgumentError } from "../errors/index.ts";
import { shapeOfView, type TensorView } from "../tensor/index.ts";

/** Throws unless two tensors have the same dtype and device. */
export function requireAlike(op: string, a: TensorView, nameOfA: string, b: TensorView, nameOfB: string): void {
  if (a.dtype !== b.dtype) {
    throw new InvalidArgumentError(
      `${op}: ${nameOfA} is ${a.dtype}, ${nameOfB} is ${b.dtype}; they must have the same dtype`,
      {
        op,
        argument: nameOfB,
      },
    );
  }
  if (a.device.type !== b.device.type || a.device.index !== b.device.index) {
    throw new InvalidArgumentError(`${op}: ${nameOfA} and ${nameOfB} must be on the same device`, {
      op,
      argument: nameOfB,
    });
  }
}

/** Throws unless a list has one tensor per rank. */
export function requirePerRank(op: string, argument: string, list: readonly unknown[], size: number): void {
  if (list.length === size) return;
  throw new InvalidArgumentError(
    `${op}: ${argument} must have one tensor per rank of the group: expected ${size}, got ${list.length}`,
    { op, argument },
  );
}

/** Throws unless tensor `i` of a list has the length of `like`. */
export function requireLengthAt(
  op: string,
  argument: string,
  list: readonly TensorView[],
  i: number,
  like: TensorView,
  name: string,
): void {
  const length = list[i]?.length;
  if (length === like.length) return;
  throw new InvalidArgumentError(
    `${op}: ${argument}[${i}] has ${length} elements, ${name} has ${like.length}; they must be equal`,
    { op, argument },
  );
}

/** Throws unless all tensors of a list have the length of `like`. */
export function requireLengths(
  op: string,
  argument: string,
  list: readonly TensorView[],
  like: TensorView,
  name: string,
): void {
  for (const i of list.keys()) requireLengthAt(op, argument, list, i, like, name);
}

/** Throws unless `large` has `size` times the elements of `small`. */
export function requireTimes(
  op: string,
  large: TensorView,
  nameOfLarge: string,
  small: TensorView,
  nameOfSmall: string,
  size: number,
): void {
  if (large.length === small.length * size) return;
  throw new InvalidArgumentError(
    `${op}: ${nameOfLarge} must have ${size} (world size) times the elements of ${nameOfSmall} (${small.length}), got ${large.length}`,
    { op, argument: nameOfLarge },
  );
}

/**
 * Split sizes of an all-to-all in elements. They are given in rows (first dimension) of the tensor, one per rank, and
 * add up to its length; equal parts if none are given.
 */
export function requireSplits(
  op: string,
  argument: string,
  splits: readonly number[] | undefined,
  tensor: TensorView,
  size: number,
): number[] {
  if (splits !== undefined && !Array.isArray(splits)) {
    throw new InvalidArgumentError(`${op}: ${argument} must be an array of numbers, got ${describe(splits)}`, {
      op,
      argument,
    });
  }
  const rows = shapeOfView(tensor)[0] ?? 1;
  if (splits === undefined || splits.length === 0) {
    if (rows % size !== 0) {
      throw new InvalidArgumentError(
        `${op}: Tensor's dim 0 (${rows}) does not divide equally across group size (${size}); give ${argument}`,
        { op, argument },
      );
    }
    return new Array<number>(size).fill(tensor.length / size);
  }
  if (splits.length !== size) {
    throw new InvalidArgumentError(
      `${op}: Number of tensor splits not equal to group size: ${argument} has ${splits.length}, the group ${size}`,
      { op, argument },
    );
  }
  if (!splits.every((split) => Number.isInteger(split) && split >= 0)) {
    throw new InvalidArgumentError(`${op}: ${argument} must be integers of at least 0, got [${splits.join(", ")}]`, {
      op,
      argument,
    });
  }
  const total = splits.reduce((sum, split) => sum + split, 0);
  if (total !== rows) {
    throw new InvalidArgumentError(
      `${op}: Split sizes doesn't match total dim 0 size: ${argument} add up to ${total}, the tensor has ${rows}`,
      { op, argument },
    );
  }
  const row = rows === 0 ? 0 : tensor.length / rows;
  return splits.map((split) => split * row);
}

const MAX_TAG = 2 ** 31 - 1;

/** The tag of a message; 0 if none is given. */
export function requireTag(op: string, tag: number | undefined): number {
  if (tag === undefined) return 0;
  if (Number.isInteger(tag) && tag >= 0 && tag <= MAX_TAG) return tag;
  throw new InvalidArgumentError(`${op}: tag must be an integer from 0 to ${MAX_TAG}, got ${String(tag)}`, {
    op,
    argument: "tag",
  });
}
