import { expect, setDefaultTimeout, test } from "bun:test";
import { allWell } from "../../src/backends/fixtures/all-well.ts";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { spawnRanks } from "../../src/testing/index.ts";
import type { JoinResult } from "./fixtures/tfjs-join.ts";
import type { LayersResult } from "./fixtures/tfjs-layers.ts";
import type { TrainingArguments, TrainingResult } from "./fixtures/tfjs-training.ts";
import { bitsOf, countOf, largestDifference } from "./weights.ts";

setDefaultTimeout(120_000);

const steps = 10;
const batch = 32;

async function train(worldSize: number, args: Omit<TrainingArguments, "steps" | "batch">): Promise<TrainingResult[]> {
  const file = new URL("./fixtures/tfjs-training.ts", import.meta.url);
  return allWell(await spawnRanks(worldSize, file, { timeout: "100s", args: { ...args, steps, batch } }));
}

/** Averages of the losses of all ranks. */
function lossesOf(results: readonly TrainingResult[]): number[] {
  return Array.from({ length: steps }, (_, step) => {
    return results.reduce((sum, { losses }) => sum + (losses[step] ?? Number.NaN), 0) / results.length;
  });
}

describeGloo("a convolutional network in TensorFlow.js", () => {
  const references: TrainingResult[] = [];

  test.each(["cpu", "wasm"] as const)(
    "on %s, two ranks train what one rank trains on the whole batch",
    async (backend) => {
      const [reference] = (await train(1, { backend, gradientAsBucketView: false })) as [TrainingResult];
      const ranks = (await train(2, { backend, gradientAsBucketView: backend === "cpu" })) as [
        TrainingResult,
        TrainingResult,
      ];
      references.push(reference);
      const difference = largestDifference(ranks[0].weights, reference.weights);
      const losses = lossesOf(ranks);
      console.log(
        `tfjs ${backend}: ${countOf(reference.weights)} weights after ${steps} steps of ${batch} digits: 2 ranks differ from 1 by ${difference}; ` +
          `loss ${losses[0]?.toFixed(3)} to ${losses.at(-1)?.toFixed(3)}, ${ranks[0].millisecondsAStep.toFixed(0)} ms a step, 1 rank ${reference.millisecondsAStep.toFixed(0)} ms`,
      );
      expect(bitsOf(ranks[1].weights)).toEqual(bitsOf(ranks[0].weights));
      expect(difference).toBeLessThan(5e-6);
      for (const [step, loss] of lossesOf([reference]).entries()) expect(losses[step]).toBeCloseTo(loss, 4);
      expect(losses.at(-1)).toBeLessThan(0.8 * (losses[0] ?? 0));
      // The optimizer makes its own in the first step.
      for (const { tensors } of ranks) expect(tensors).toEqual(Array(steps).fill(tensors[0]));
    },
  );

  test("wasm, with conv3d in place of conv2d, trains what cpu trains", () => {
    const [cpu, wasm] = references as [TrainingResult, TrainingResult];
    const difference = largestDifference(cpu.weights, wasm.weights);
    console.log(`tfjs: the weights of cpu and wasm differ by ${difference}`);
    expect(difference).toBeLessThan(1e-4);
    expect(difference).toBeGreaterThan(0);
  });

  test.each([true, false])(
    "layers: trained weights are equal, others are copied from rank 0, broadcastBuffers %p",
    async (broadcastBuffers) => {
      const file = new URL("./fixtures/tfjs-layers.ts", import.meta.url);
      const ranks = allWell<LayersResult>(await spawnRanks(2, file, { timeout: "60s", args: { broadcastBuffers } }));
      const [first, second] = ranks as [LayersResult, LayersResult];
      const kernel = "conv2d_Conv2D1/kernel";
      const mean = "batch_normalization_BatchNormalization1/moving_mean";
      expect(first.trained).toHaveLength(4);
      expect(bitsOf(first.initial)[kernel]).not.toBe(bitsOf(second.initial)[kernel]);
      expect(bitsOf(first.weights)).toEqual(bitsOf(second.weights));
      expect(Object.keys(first.frozen[0] ?? {})).toEqual([
        "conv2d_Conv2D1/kernel",
        "conv2d_Conv2D1/bias",
        mean,
        "batch_normalization_BatchNormalization1/moving_variance",
      ]);
      for (const step of [0, 1, 2]) {
        const [one, other] = [bitsOf(first.frozen[step] ?? {}), bitsOf(second.frozen[step] ?? {})];
        expect(one[kernel]).toBe(bitsOf(first.initial)[kernel] ?? "");
        expect(other[kernel]).toBe(one[kernel] ?? "");
        expect(other[mean] === one[mean]).toBe(broadcastBuffers || step === 0);
      }
      const means = first.frozen.map((values) => bitsOf(values)[mean]);
      expect(new Set(means).size).toBe(3);
    },
  );

  test("ranks with different numbers of inputs end with the model of the last one", async () => {
    const file = new URL("./fixtures/tfjs-join.ts", import.meta.url);
    const [first, last] = allWell<JoinResult>(await spawnRanks(2, file, { timeout: "60s" }));
    // Gradients of 1 and 2, and in the second step of 0 and 2.
    const weight = [0 - 1.5 - 1, 8 - 1.5 - 1];
    expect([first, last]).toEqual([
      { steps: 1, weight },
      { steps: 2, weight },
    ]);
  });
});
