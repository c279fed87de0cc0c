import { InvalidArgumentError } from "../../errors/index.ts";
import { type CommHook, computing } from "../comm-hook.ts";
import { allReduceHook } from "./default-hooks.ts";
import { ExchangedFloats, realDTypeOf } from "./exchanged-floats.ts";
import { expand, multiply, multiplyTransposed } from "./low-rank-products.ts";
import { orthogonalize } from "./orthogonalize.ts";
import { type PowerSGDState, requirePowerSGDState } from "./power-sgd-state.ts";
import { fillNormal } from "./random-fill.ts";

/**
 * Compresses a whole bucket as one square matrix, with zeros at its end. Faster than `powerSGDHook`, and usually much
 * less accurate, since rows and columns are not those of the parameters. `minCompressionRate` and
 * `batchTensorsWithSameShape` do not count.
 *
 * Two all-reduces for each bucket.
 *
 * @throws InvalidArgumentError for gradients that are sparse or complex, if the buckets have changed
 *   (`BUCKETS_CHANGED`), or if the matrix has fewer rows than `matrixApproximationRank`.
 *
 * c10d: `batched_powerSGD_hook`, which in PyTorch 2.13 fails as soon as it compresses.
 */
export const batchedPowerSGDHook: CommHook<PowerSGDState> = async function batchedPowerSGDHook(given, bucket) {
  const state = requirePowerSGDState("batchedPowerSGDHook", given);
  const dtype = realDTypeOf("batchedPowerSGDHook", bucket);
  const group = state.group ?? bucket.group;
  if (state.iter < state.startPowerSGDIter) {
    state.maybeIncreaseIter(bucket);
    return await allReduceHook(group, bucket);
  }
  const buffer = bucket.dense();
  const own = new ExchangedFloats(buffer);
  const rank = state.matrixApproximationRank;
  const side = Math.ceil(Math.sqrt(own.length));
  if (rank > side) {
    throw new InvalidArgumentError(
      `batchedPowerSGDHook: bucket ${bucket.index()} has ${own.length} elements, a matrix of ${side} rows, which cannot be approximated by ${rank} columns; choose a smaller matrixApproximationRank`,
      { argument: "matrixApproximationRank" },
    );
  }
  const shape = { rows: side, columns: side, rank };
  const memory = state.memoryOf(bucket, dtype, {
    length: side * side,
    p: [side, rank],
    q: [side, rank],
    plain: side * side,
  });
  state.count(bucket, own.length, 2 * side * rank);
  const { p, q, plain: matrix, scratch } = memory;
  own.load();
  matrix.values.fill(0).set(own.values);
  memory.addError(matrix);

  const epsilon = state.orthogonalizationEpsilon;
  if (!memory.hasQ) {
    fillNormal(q.values, dtype, state.reseeded());
    q.round();
  }
  orthogonalize(q.values, side, rank, dtype, epsilon, scratch);
  multiply(p.values, matrix.values, q.values, shape);
  await p.allReduce(group);
  orthogonalize(p.values, side, rank, dtype, epsilon, scratch);
  multiplyTransposed(q.values, matrix.values, p.values, shape, scratch);
  await q.allReduce(group);
  q.divide(group.size);
  memory.hasQ = state.warmStart;
  expand(matrix.values, p.values, q.values, shape);
  matrix.round();
  memory.keepError(matrix);
  own.values.set(matrix.values.subarray(0, own.length));
  own.round();
  state.maybeIncreaseIter(bucket);
  return buffer;
};

computing(batchedPowerSGDHook);
