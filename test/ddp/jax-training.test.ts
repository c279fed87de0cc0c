import { expect, setDefaultTimeout, test } from "bun:test";
import { allWell } from "../../src/backends/fixtures/all-well.ts";
import { describeGloo } from "../../src/backends/gloo/fixtures/availability.ts";
import { spawnRanks } from "../../src/testing/index.ts";
import type { TrainingArguments, TrainingResult } from "./fixtures/jax-training.ts";
import { bitsOf, countOf, largestDifference } from "./weights.ts";

setDefaultTimeout(120_000);

async function train(worldSize: number, args: TrainingArguments): Promise<TrainingResult[]> {
  const file = new URL("./fixtures/jax-training.ts", import.meta.url);
  return allWell(await spawnRanks(worldSize, file, { timeout: "100s", args }));
}

describeGloo("a convolutional network in jax-js", () => {
  test.each([
    { device: "wasm", steps: 20, batch: 32 },
    { device: "cpu", steps: 3, batch: 8 },
  ] as const)("on $device, two ranks train what one rank trains on the whole batch", async (args) => {
    const { device, steps, batch } = args;
    const [reference] = (await train(1, args)) as [TrainingResult];
    const ranks = (await train(2, args)) as [TrainingResult, TrainingResult];
    const difference = largestDifference(ranks[0].weights, reference.weights);
    const losses = ranks[0].losses.map((loss, step) => (loss + (ranks[1].losses[step] ?? Number.NaN)) / 2);
    console.log(
      `jax-js ${device}: ${countOf(reference.weights)} weights after ${steps} steps of ${batch} digits: 2 ranks differ from 1 by ${difference}; ` +
        `loss ${losses[0]?.toFixed(3)} to ${losses.at(-1)?.toFixed(3)}, ${ranks[0].millisecondsAStep.toFixed(0)} ms a step, 1 rank ${reference.millisecondsAStep.toFixed(0)} ms`,
    );
    expect(bitsOf(ranks[1].weights)).toEqual(bitsOf(ranks[0].weights));
    expect(difference).toBeLessThan(5e-6);
    for (const [step, loss] of reference.losses.entries()) expect(losses[step]).toBeCloseTo(loss, 4);
    // Few steps on cpu, which interprets each operation.
    if (device === "wasm") expect(losses.at(-1)).toBeLessThan(0.8 * (losses[0] ?? 0));
    for (const { references, threads } of ranks) {
      expect(references).toEqual(Array(steps).fill(1));
      expect(threads > 0).toBe(device === "wasm");
    }
  });
});
