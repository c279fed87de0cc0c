import { type CommHook, computing } from "../comm-hook.ts";
import type { GradBucket } from "../grad-bucket.ts";
import { allReduceHook } from "./default-hooks.ts";
import { realDTypeOf } from "./exchanged-floats.ts";
import { expand, type Floats, type MatrixShape, multiply, multiplyTransposed } from "./low-rank-products.ts";
import { orthogonalize } from "./orthogonalize.ts";
import { type PowerSGDState, requirePowerSGDState } from "./power-sgd-state.ts";
import { fillNormal } from "./random-fill.ts";

/**
 * Compresses the gradient of each parameter, as a matrix M of its first dimension by all others, to two matrices of few
 * columns, P = MQ and Q = MᵀP, that are summed over all ranks; the average is PQᵀ. Parameters of which that would not
 * save enough, such as those of one dimension, are averaged as they are. The first iterations are not compressed.
 *
 * Three all-reduces for each bucket. Gradients are of float32, float64, float16 or bfloat16.
 *
 * @throws InvalidArgumentError for gradients that are sparse or complex, or if the buckets have changed
 *   (`BUCKETS_CHANGED`).
 *
 * c10d: `powerSGD_hook`.
 */
export const powerSGDHook: CommHook<PowerSGDState> = async function powerSGDHook(given, bucket) {
  const state = requirePowerSGDState("powerSGDHook", given);
  const dtype = realDTypeOf("powerSGDHook", bucket);
  const group = state.group ?? bucket.group;
  if (state.iter < state.startPowerSGDIter) {
    state.maybeIncreaseIter(bucket);
    return await allReduceHook(group, bucket);
  }
  const plan = planOf(bucket, state);
  const { matrices, plain, length } = plan;
  const memory = state.memoryOf(bucket, dtype, {
    length,
    p: [plan.pLength],
    q: [plan.qLength],
    plain: plain.reduce((sum, each) => sum + each.length, 0),
  });
  state.count(bucket, length, plan.sent);
  const buffer = bucket.dense();
  const input = memory.inputOf(buffer);
  memory.addError(input);

  const { p, q, scratch } = memory;
  const epsilon = state.orthogonalizationEpsilon;
  const orthogonal = (factors: Floats, rows: number, rank: number) =>
    orthogonalize(factors, rows, rank, dtype, epsilon, scratch);
  const partsOf = (matrix: PlannedMatrix) => ({
    m: input.values.subarray(matrix.start, matrix.start + matrix.rows * matrix.columns) as Floats,
    p: p.values.subarray(matrix.p, matrix.p + matrix.rows * matrix.rank) as Floats,
    q: q.values.subarray(matrix.q, matrix.q + matrix.columns * matrix.rank) as Floats,
  });

  let to = 0;
  for (const { start, length } of plain) {
    memory.plain.values.set(input.values.subarray(start, start + length), to);
    to += length;
  }
  const plainSum = memory.plain.allReduce(group);
  if (!memory.hasQ) {
    const generator = state.reseeded();
    for (const [start, end] of plan.draws) fillNormal(q.values.subarray(start, end) as Floats, dtype, generator);
    q.round();
  }
  for (const matrix of matrices) {
    const parts = partsOf(matrix);
    orthogonal(parts.q, matrix.columns, matrix.rank);
    multiply(parts.p, parts.m, parts.q, matrix);
  }
  await plainSum;
  memory.plain.divide(group.size);
  let from = 0;
  for (const { start, length } of plain) {
    input.values.set(memory.plain.values.subarray(from, from + length), start);
    from += length;
  }

  // Their lengths do not matter, since they become 1.
  await p.allReduce(group);
  for (const matrix of matrices) {
    const parts = partsOf(matrix);
    orthogonal(parts.p, matrix.rows, matrix.rank);
    multiplyTransposed(parts.q, parts.m, parts.p, matrix, scratch);
  }
  await q.allReduce(group);
  q.divide(group.size);
  memory.hasQ = state.warmStart;
  for (const matrix of matrices) {
    const parts = partsOf(matrix);
    expand(parts.m, parts.p, parts.q, matrix);
  }
  input.round();
  memory.keepError(input);
  state.maybeIncreaseIter(bucket);
  return buffer;
};

computing(powerSGDHook);

/** Where a gradient that is compressed is in the bucket, and its matrices among those of all. */
interface PlannedMatrix extends MatrixShape {
  readonly start: number;
  readonly p: number;
  readonly q: number;
}

/** What becomes of the gradients of a bucket. */
interface Plan {
  /** Number of elements. */
  readonly length: number;
  /** Gradients that are compressed: those of one shape follow each other. */
  readonly matrices: readonly PlannedMatrix[];
  /** Gradients that are not. */
  readonly plain: readonly { readonly start: number; readonly length: number }[];
  readonly pLength: number;
  readonly qLength: number;
  /** Elements sent. */
  readonly sent: number;
  /** Parts of all Q that are drawn at once, since where random numbers are drawn in blocks that counts. */
  readonly draws: readonly (readonly [start: number, end: number])[];
}

function planOf(bucket: GradBucket, state: PowerSGDState): Plan {
  const plain: { start: number; length: number }[] = [];
  const byShape = new Map<string, (MatrixShape & { readonly start: number })[]>();
  let [length, sent] = [0, 0];
  for (const parameter of bucket.parameters()) {
    const rows = parameter.shape[0] ?? 1;
    const columns = rows === 0 ? 0 : parameter.length / rows;
    const rank = Math.min(rows, columns, state.matrixApproximationRank);
    const compressed = (rows + columns) * rank;
    if (compressed * state.minCompressionRate < parameter.length) {
      const shape = `${rows} ${columns}`;
      const alike = byShape.get(shape) ?? [];
      alike.push({ start: length, rows, columns, rank });
      byShape.set(shape, alike);
      sent += compressed;
    } else {
      plain.push({ start: length, length: parameter.length });
      sent += parameter.length;
    }
    length += parameter.length;
  }
  const matrices: PlannedMatrix[] = [];
  const draws: [start: number, end: number][] = [];
  let [pLength, qLength] = [0, 0];
  for (const alike of byShape.values()) {
    const first = qLength;
    for (const matrix of alike) {
      matrices.push({ ...matrix, p: pLength, q: qLength });
      if (!state.batchTensorsWithSameShape) draws.push([qLength, qLength + matrix.columns * matrix.rank]);
      pLength += matrix.rows * matrix.rank;
      qLength += matrix.columns * matrix.rank;
    }
    if (state.batchTensorsWithSameShape) draws.push([first, qLength]);
  }
  return { length, matrices, plain, pLength, qLength, sent, draws };
}
