import { type ProcessGroup, ReduceOp } from "bun-c10d";
import type { Digits } from "./dataset.ts";
import { newMlp, type Replica, Trainer, type TrainingOptions } from "./trainer.ts";

export const MIN_ACCURACY = 0.93;
export const MAX_DIFFERENCE = 1e-4;

/** Throws if the network has learnt too little. */
export function checkAccuracy(accuracy: number): void {
  if (accuracy >= MIN_ACCURACY) return;
  throw new Error(`test accuracy is ${percent(accuracy)}, below the ${percent(MIN_ACCURACY)} that this job must reach`);
}

/** Throws, on all ranks, unless the parameters of all ranks have the same bits. */
export async function checkIdentical(group: ProcessGroup, parameters: Float32Array): Promise<void> {
  const bits = new Int32Array(parameters.buffer, parameters.byteOffset, parameters.length);
  const lowest = bits.slice();
  const highest = bits.slice();
  await group.allReduce(lowest, { op: ReduceOp.MIN });
  await group.allReduce(highest, { op: ReduceOp.MAX });
  const different = lowest.reduce((count, low, index) => (low === highest[index] ? count : count + 1), 0);
  if (different === 0) return;
  throw new Error(`${different} of ${bits.length} parameters differ between the ${group.size} ranks`);
}

/**
 * Repeats the whole training on one rank with whole batches, on rank 0 while the others wait, and throws, on all
 * ranks, if a parameter ends further than 1e-4 from the distributed run's. Returns the largest difference.
 *
 * The two runs add the same numbers in a different order, so every step differs in the last bits. The smooth activation
 * and the default learning rate keep that difference small (below 1e-6 at the end); with `--lr 0.4` it exceeds 1e-2.
 */
export async function checkAgainstOneRank(
  group: ProcessGroup,
  digits: Digits,
  options: TrainingOptions,
  parameters: Float32Array,
): Promise<number> {
  const difference = Float64Array.of(0);
  if (group.rank === 0) difference[0] = largestDifference(parameters, await trainAlone(digits, options));
  await group.allReduce(difference, { op: ReduceOp.MAX });
  const largest = difference[0] ?? Number.POSITIVE_INFINITY;
  if (largest <= MAX_DIFFERENCE) return largest;
  throw new Error(
    `a parameter differs by ${largest.toExponential(2)} from the run of one rank with whole batches, ` +
      `more than ${MAX_DIFFERENCE.toExponential(0)}: the averaged gradients are wrong or, where --lr was raised or ` +
      "--batch lowered, training is so unstable that it amplifies rounding; then lower --lr",
  );
}

/** The parameters that this process reaches without a group: its own gradients are the averages. */
export async function trainAlone(digits: Digits, options: TrainingOptions): Promise<Float32Array> {
  const mlp = newMlp(options);
  const gradients = new Map(mlp.parameters.map(({ name, data }) => [name, new Float32Array(data.length)]));
  const replica: Replica = {
    step: async (body) => body({ ready() {} }),
    gradientBuffer: (name) => gradients.get(name),
  };
  const trainer = new Trainer(mlp, replica, digits, options);
  for (let epoch = 0; epoch < options.epochs; epoch++) await trainer.runEpoch(epoch);
  return mlp.weights();
}

/** Largest absolute difference of two arrays; a NaN anywhere counts as infinite. */
export function largestDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (const [index, value] of a.entries()) {
    const difference = Math.abs(value - (b[index] ?? Number.NaN));
    if (Number.isNaN(difference)) return Number.POSITIVE_INFINITY;
    largest = Math.max(largest, difference);
  }
  return largest;
}

export function percent(fraction: number): string {
  return `${(fraction * 100).toFixed(2)} %`;
}
