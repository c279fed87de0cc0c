import { describe, expect, test } from "bun:test";
import { type ChartData, renderChart } from "./chart.ts";
import { CLASSES, type Digits, epochOrder, loadDigits, PIXELS, shardOf, splitDigits } from "./dataset.ts";
import { Mlp } from "./mlp.ts";
import { parseOptions } from "./options.ts";
import { alone, type Peers } from "./peers.ts";
import { Random } from "./random.ts";
import { Sgd } from "./sgd.ts";
import { Trainer } from "./trainer.ts";
import { checkAccuracy, checkAgainstOneRank, checkIdentical, largestDifference } from "./verify.ts";

const digits = await loadDigits();

describe("digits", () => {
  test("there are 10 000, with ink between 0 and 1", () => {
    expect(digits.labels).toHaveLength(10_000);
    expect(digits.pixels).toHaveLength(10_000 * PIXELS);
    const counts = Array.from(
      { length: CLASSES },
      (_, digit) => digits.labels.filter((label) => label === digit).length,
    );
    expect(counts).toEqual([1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]);
    expect(digits.pixels.every((ink) => ink >= 0 && ink <= 1)).toBe(true);
  });

  test("labels belong to their images, even after splitting: the nearest mean image predicts most test labels", () => {
    const { train, test: held } = splitDigits(digits, 2000, 7);
    const means = meanImages(train);
    let right = 0;
    for (const [index, label] of held.labels.entries()) {
      if (nearest(means, held.pixels.subarray(index * PIXELS, (index + 1) * PIXELS)) === label) right++;
    }
    expect(right / held.labels.length).toBeGreaterThan(0.75);
  });

  test("the split divides the images and depends only on the seed", () => {
    const { train, test: held } = splitDigits(digits, 2000, 7);
    expect([train.labels.length, held.labels.length]).toEqual([8000, 2000]);
    const fingerprints = new Set([...fingerprintsOf(train), ...fingerprintsOf(held)]);
    expect(fingerprints.size).toBe(10_000);
    expect(splitDigits(digits, 2000, 7).test.labels).toEqual(held.labels);
    expect(splitDigits(digits, 2000, 8).test.labels).not.toEqual(held.labels);
  });

  test("an epoch's order holds every image once, the same on each rank, different in each epoch", () => {
    const order = epochOrder(1000, 1, 0);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, index) => index));
    expect(epochOrder(1000, 1, 0)).toEqual(order);
    expect(epochOrder(1000, 1, 1)).not.toEqual(order);
    expect(epochOrder(1000, 2, 0)).not.toEqual(order);
  });

  test.each([1, 2, 3, 7, 12])("the shards of %d ranks make up the batch", (worldSize) => {
    for (const length of [1, 5, 100]) {
      const batch = epochOrder(length, 3, 0);
      const shards = Array.from({ length: worldSize }, (_, rank) => shardOf(batch, rank, worldSize));
      expect(shards.flatMap((shard) => [...shard])).toEqual([...batch]);
      const lengths = shards.map((shard) => shard.length);
      expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(1);
    }
  });
});

describe("mlp", () => {
  test("gradients agree with finite differences", () => {
    const mlp = new Mlp({ inputs: 9, hidden: 5, outputs: 4 });
    const { images, indices } = smallBatch(6, 9, 4);
    const parameters = mlp.initialParameters(11);
    const gradients = new Float32Array(mlp.parameterCount);
    mlp.gradient(parameters, gradients, images, indices, 1);

    const random = new Random(5);
    let largest = 0;
    for (const [index, gradient] of gradients.entries()) {
      const original = parameters[index] ?? Number.NaN;
      const lossAt = (value: number) => {
        parameters[index] = value;
        return { at: parameters[index] ?? Number.NaN, loss: mlp.evaluate(parameters, images, indices).loss };
      };
      const step = 1e-3 * (1 + random.uniform());
      const above = lossAt(original + step);
      const below = lossAt(original - step);
      parameters[index] = original;
      const slope = (above.loss - below.loss) / (above.at - below.at);
      largest = Math.max(largest, Math.abs(gradient));
      expect(Math.abs(gradient - slope)).toBeLessThan(1e-5);
    }
    expect(largest).toBeGreaterThan(0.1);
  });

  test.each([2, 3, 4])("gradients of %d shards average to the whole batch's", (worldSize) => {
    const mlp = new Mlp({ inputs: PIXELS, hidden: 16, outputs: CLASSES });
    const parameters = mlp.initialParameters(2);
    const batch = epochOrder(digits.labels.length, 1, 0).subarray(0, 50);
    const whole = new Float32Array(mlp.parameterCount);
    const wholeResult = mlp.gradient(parameters, whole, digits, batch, 1 / batch.length);

    const average = new Float32Array(mlp.parameterCount);
    const sums = { loss: 0, correct: 0 };
    for (let rank = 0; rank < worldSize; rank++) {
      const part = new Float32Array(mlp.parameterCount);
      const shard = shardOf(batch, rank, worldSize);
      const result = mlp.gradient(parameters, part, digits, shard, worldSize / batch.length);
      for (const [index, value] of part.entries()) average[index] = (average[index] ?? 0) + value / worldSize;
      sums.loss += result.loss;
      sums.correct += result.correct;
    }
    expect(whole.some((value) => Math.abs(value) > 1e-2)).toBe(true);
    expect(largestDifference(average, whole)).toBeLessThan(1e-5);
    expect(sums.correct).toBe(wholeResult.correct);
    expect(sums.loss).toBeCloseTo(wholeResult.loss, 8);
  });

  test("evaluate and gradient compute the same loss and hits", () => {
    const mlp = new Mlp({ inputs: PIXELS, hidden: 8, outputs: CLASSES });
    const parameters = mlp.initialParameters(3);
    const indices = epochOrder(digits.labels.length, 4, 0).subarray(0, 200);
    const seen = mlp.gradient(parameters, new Float32Array(mlp.parameterCount), digits, indices, 1);
    expect(mlp.evaluate(parameters, digits, indices)).toEqual(seen);
  });

  test("momentum steps as computed by hand", () => {
    const parameters = Float32Array.of(1, -1);
    const sgd = new Sgd(2, 0.5);
    sgd.step(parameters, Float32Array.of(2, 4), 0.25);
    expect([...parameters]).toEqual([0.5, -2]);
    sgd.step(parameters, Float32Array.of(1, 0), 0.25);
    expect([...parameters]).toEqual([0, -2.5]);
  });
});

describe("data-parallel training", () => {
  const options = { epochs: 3, batch: 50, learningRate: 0.1, seed: 1, hidden: 16 };
  const { train: some } = splitDigits(digits, 9_200, 1);

  test("three ranks learn, keep identical weights and get the same result as one rank", async () => {
    const outcomes = await Promise.all(
      joinedPeers(3).map(async (peers) => {
        const trainer = new Trainer(peers, some, options);
        const before = await trainer.evaluate(some);
        for (let epoch = 0; epoch < options.epochs; epoch++) await trainer.runEpoch(epoch);
        await checkIdentical(peers, trainer.parameters);
        const difference = await checkAgainstOneRank(peers, some, options, trainer.parameters);
        return { before, after: await trainer.evaluate(some), difference };
      }),
    );
    const [first] = outcomes;
    for (const outcome of outcomes) expect(outcome).toEqual(first as typeof outcome);
    expect(first?.before.accuracy).toBeLessThan(0.3);
    expect(first?.after.accuracy).toBeGreaterThan(0.8);
    expect(first?.difference).toBeGreaterThan(0);
    expect(first?.difference).toBeLessThan(1e-5);
  });

  test("every rank detects a rank with one different bit", async () => {
    const parameters = (rank: number) => Float32Array.of(1, rank === 1 ? 2 + 2 ** -22 : 2, 3);
    const checks = joinedPeers(3).map((peers) => checkIdentical(peers, parameters(peers.rank)));
    const results = await Promise.allSettled(checks);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    await expect(checks[0]).rejects.toThrow("1 of 3 parameters differ between the 3 ranks");
  });

  test("weights that one rank would not have reached are detected, even NaN", async () => {
    const trainer = new Trainer(alone, some, { ...options, epochs: 1 });
    await trainer.runEpoch(0);
    const check = (change: number) => {
      const parameters = trainer.parameters.slice();
      parameters[7] = (parameters[7] ?? 0) + change;
      return checkAgainstOneRank(alone, some, { ...options, epochs: 1 }, parameters);
    };
    expect(await check(0)).toBe(0);
    await expect(check(2e-4)).rejects.toThrow("differs by 2.00e-4");
    await expect(check(Number.NaN)).rejects.toThrow("differs by Infinity");
  });

  test("too low an accuracy fails the job", () => {
    expect(() => checkAccuracy(0.9299)).toThrow("test accuracy is 92.99 %, below the 93.00 %");
    expect(() => checkAccuracy(Number.NaN)).toThrow();
    expect(() => checkAccuracy(0.93)).not.toThrow();
  });
});

describe("chart", () => {
  const epoch = {
    trainLoss: 0.5,
    testLoss: 0.6,
    trainAccuracy: 0.9,
    testAccuracy: 0.88,
    computeMs: 90,
    communicationMs: 10,
  };
  const data: ChartData = {
    title: "Loss & <accuracy>",
    subtitle: "2 ranks",
    stepLosses: [2.3, 1.1, 0.7, 0.55],
    epochs: [epoch, { ...epoch, trainLoss: 0.3, testAccuracy: 0.945 }],
  };

  test("is well-formed, with axes, legend and every point", () => {
    const svg = renderChart(data);
    expectWellFormed(svg);
    expect(svg).toContain("Loss &#38; &#60;accuracy&#62;");
    expect(svg.match(/<circle/g)).toHaveLength(8);
    expect(svg.match(/<polyline/g)).toHaveLength(5);
    for (const word of ["train", "test", "compute", "communication, with waiting", "epoch", "94.5 %"]) {
      expect(svg).toContain(`>${word}</text>`);
    }
  });

  test("is also well-formed for one epoch, for none, and for a training that diverged", () => {
    expectWellFormed(renderChart({ ...data, epochs: [epoch], stepLosses: [1] }));
    expectWellFormed(renderChart({ ...data, epochs: [], stepLosses: [] }));
    const lost = { ...epoch, trainLoss: Number.NaN, testLoss: Number.POSITIVE_INFINITY };
    expectWellFormed(renderChart({ ...data, epochs: [epoch, lost], stepLosses: [1, 2, Number.NaN, Number.NaN] }));
  });
});

describe("options", () => {
  test("have defaults and accept values", () => {
    expect(parseOptions([])).toMatchObject({ epochs: 8, batch: 100, learningRate: 0.15, seed: 1, hidden: 96 });
    expect(parseOptions(["--epochs", "2", "--lr=0.5", "--out", "a.svg"])).toMatchObject({
      epochs: 2,
      learningRate: 0.5,
      out: "a.svg",
    });
  });

  test.each([
    [["--epochs", "0"], '--epochs must be an integer from 1 to 1000, got "0"'],
    [["--batch", "ten"], '--batch must be an integer from 1 to 10000, got "ten"'],
    [["--hidden="], '--hidden must be an integer from 1 to 4096, got ""'],
    [["--lr", "-1e400"], "--lr"],
    [["--speed", "9"], "--speed"],
  ])("%p is refused", (args, message) => {
    expect(() => parseOptions(args)).toThrow(message);
  });
});

/** Ranks in one process: a reduction completes when the last of them has called it, in the order of the calls. */
function joinedPeers(worldSize: number): Peers[] {
  type Values = Float32Array | Float64Array | Int32Array;
  let waiting: { values: Values; done: () => void }[] = [];
  const reduce = (values: Values, combine: (column: number[]) => number) =>
    new Promise<void>((done) => {
      waiting.push({ values, done });
      if (waiting.length < worldSize) return;
      const all = waiting;
      waiting = [];
      for (let i = 0; i < values.length; i++) {
        const combined = combine(all.map((peer) => peer.values[i] ?? Number.NaN));
        for (const peer of all) peer.values[i] = combined;
      }
      for (const peer of all) peer.done();
    });
  const total = (column: number[]) => column.reduce((sum, value) => sum + value, 0);
  return Array.from({ length: worldSize }, (_, rank) => ({
    rank,
    worldSize,
    average: (values) => reduce(values, (column) => total(column) / worldSize),
    sum: (values) => reduce(values, total),
    min: (values) => reduce(values, (column) => Math.min(...column)),
    max: (values) => reduce(values, (column) => Math.max(...column)),
  }));
}

function smallBatch(count: number, inputs: number, classes: number): { images: Digits; indices: Uint32Array } {
  const random = new Random(99);
  const pixels = Float32Array.from({ length: count * inputs }, () => Math.max(0, random.uniform() - 0.4));
  const labels = Uint8Array.from({ length: count }, (_, index) => index % classes);
  return { images: { pixels, labels }, indices: Uint32Array.from({ length: count }, (_, index) => index) };
}

function meanImages({ pixels, labels }: Digits): Float64Array[] {
  const means = Array.from({ length: CLASSES }, () => new Float64Array(PIXELS));
  const counts = new Uint32Array(CLASSES);
  for (const label of labels) counts[label] = (counts[label] ?? 0) + 1;
  for (const [index, label] of labels.entries()) {
    const count = counts[label] ?? 0;
    const mean = means[label] ?? new Float64Array(PIXELS);
    for (let i = 0; i < PIXELS; i++) mean[i] = (mean[i] ?? 0) + (pixels[index * PIXELS + i] ?? 0) / count;
  }
  return means;
}

function nearest(means: readonly Float64Array[], image: Float32Array): number {
  const distances = means.map((mean) => mean.reduce((sum, ink, i) => sum + (ink - (image[i] ?? 0)) ** 2, 0));
  return distances.indexOf(Math.min(...distances));
}

function fingerprintsOf({ pixels, labels }: Digits): string[] {
  return Array.from(labels, (_, index) => String(Bun.hash(pixels.slice(index * PIXELS, (index + 1) * PIXELS))));
}

function expectWellFormed(svg: string): void {
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  const open: string[] = [];
  const rest = svg.replace(
    /<(\/?)([a-z]+)((?: [a-zA-Z:-]+="[^"<]*")*)(\/?)>/g,
    (_tag, closing, name, _attributes, empty) => {
      if (closing !== "") expect(open.pop()).toBe(name);
      else if (empty === "") open.push(name);
      return "";
    },
  );
  expect(open).toEqual([]);
  expect(rest).not.toMatch(/[<>]|&(?!#\d+;)/);
  expect(svg).toStartWith('<svg xmlns="http://www.w3.org/2000/svg"');
}
