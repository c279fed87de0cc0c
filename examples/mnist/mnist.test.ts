import { describe, expect, test } from "bun:test";
import { DistributedDataParallel, type IterationTimes } from "bun-c10d/ddp";
import { LocalRanksError, localRanks } from "bun-c10d/testing";
import { type ChartData, renderChart } from "./chart.ts";
import { CLASSES, type Digits, epochOrder, loadDigits, PIXELS, shardOf, splitDigits } from "./dataset.ts";
import { EpochTime } from "./epoch-time.ts";
import { Mlp } from "./mlp.ts";
import { parseOptions } from "./options.ts";
import { Random } from "./random.ts";
import { Sgd } from "./sgd.ts";
import { newMlp, Trainer } from "./trainer.ts";
import { checkAccuracy, checkAgainstOneRank, checkIdentical, largestDifference, trainAlone } from "./verify.ts";

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
  test("gradients agree with finite differences", async () => {
    const mlp = new Mlp(9, 5, 4, 11);
    const { images, indices } = smallBatch(6, 9, 4);
    const { gradients } = await gradientsOf(mlp, images, indices, 1);
    expect(gradients.map(({ length }) => length)).toEqual([45, 5, 20, 4]);

    const random = new Random(5);
    let largest = 0;
    for (const [place, { data }] of mlp.parameters.entries()) {
      for (const [index, original] of data.entries()) {
        const gradient = gradients[place]?.[index] ?? Number.NaN;
        const lossAt = (value: number) => {
          data[index] = value;
          return { at: data[index] ?? Number.NaN, loss: mlp.evaluate(images, indices).loss };
        };
        const step = 1e-3 * (1 + random.uniform());
        const above = lossAt(original + step);
        const below = lossAt(original - step);
        data[index] = original;
        const slope = (above.loss - below.loss) / (above.at - below.at);
        largest = Math.max(largest, Math.abs(gradient));
        expect(Math.abs(gradient - slope)).toBeLessThan(1e-5);
      }
    }
    expect(largest).toBeGreaterThan(0.1);
  });

  test("each gradient is complete when it is given, the last layer's first", async () => {
    const mlp = new Mlp(9, 5, 4, 11);
    const { images, indices } = smallBatch(6, 9, 4);
    const given: { name: string; copy: Float32Array; gradient: Float32Array }[] = [];
    await gradientsOf(mlp, images, indices, 1, (name, gradient) =>
      given.push({ name, copy: gradient.slice(), gradient }),
    );
    expect(given.map(({ name }) => name)).toEqual(["b2", "w2", "b1", "w1"]);
    for (const { copy, gradient } of given) expect(copy).toEqual(gradient);
  });

  test.each([2, 3, 4])("gradients of %d shards average to the whole batch's", async (worldSize) => {
    const mlp = new Mlp(PIXELS, 16, CLASSES, 2);
    const batch = epochOrder(digits.labels.length, 1, 0).subarray(0, 50);
    const whole = await gradientsOf(mlp, digits, batch, 1 / batch.length);

    const average = whole.gradients.map(({ length }) => new Float32Array(length));
    const sums = { loss: 0, correct: 0 };
    for (let rank = 0; rank < worldSize; rank++) {
      const part = await gradientsOf(mlp, digits, shardOf(batch, rank, worldSize), worldSize / batch.length);
      for (const [place, sum] of average.entries()) {
        for (const [index, value] of sum.entries()) {
          sum[index] = value + (part.gradients[place]?.[index] ?? Number.NaN) / worldSize;
        }
      }
      sums.loss += part.result.loss;
      sums.correct += part.result.correct;
    }
    for (const [place, gradient] of whole.gradients.entries()) {
      expect(gradient.some((value) => Math.abs(value) > 1e-2)).toBe(true);
      expect(largestDifference(average[place] ?? new Float32Array(), gradient)).toBeLessThan(1e-5);
    }
    expect(sums.correct).toBe(whole.result.correct);
    expect(sums.loss).toBeCloseTo(whole.result.loss, 8);
  });

  test("evaluate and backward compute the same loss and hits", async () => {
    const mlp = new Mlp(PIXELS, 8, CLASSES, 3);
    const indices = epochOrder(digits.labels.length, 4, 0).subarray(0, 200);
    expect(mlp.evaluate(digits, indices)).toEqual((await gradientsOf(mlp, digits, indices, 1)).result);
  });

  test("momentum steps as computed by hand", () => {
    const parameters = [
      { name: "a", data: Float32Array.of(1) },
      { name: "b", data: Float32Array.of(-1) },
    ];
    const sgd = new Sgd(parameters, 0.5);
    const stepBy = (gradients: Readonly<Record<string, number>>) =>
      sgd.step((name) => Float32Array.of(gradients[name] ?? Number.NaN), 0.25);
    stepBy({ a: 2, b: 4 });
    expect(parameters.map(({ data }) => data[0])).toEqual([0.5, -2]);
    stepBy({ a: 1, b: 0 });
    expect(parameters.map(({ data }) => data[0])).toEqual([0, -2.5]);
  });
});

describe("data-parallel training", () => {
  const options = { epochs: 3, batch: 50, learningRate: 0.1, seed: 1, hidden: 32 };
  const { train: some } = splitDigits(digits, 9_200, 1);
  const bucketCapMb = 1 / 1024;

  test("three ranks learn, keep identical weights and get the same result as one rank", async () => {
    const outcomes = await localRanks(3, async ({ group }) => {
      const mlp = newMlp(options);
      const ddp = await DistributedDataParallel.create(mlp, { gradientAsBucketView: true, bucketCapMb });
      const trainer = new Trainer(mlp, ddp, some, options, group);
      const before = await trainer.evaluate(some);
      const epochs = [];
      for (let epoch = 0; epoch < options.epochs; epoch++) epochs.push(await trainer.runEpoch(epoch));
      await checkIdentical(group, mlp.weights());
      const difference = await checkAgainstOneRank(group, some, options, mlp.weights());
      return { before, epochs, after: await trainer.evaluate(some), difference };
    });
    const [first] = outcomes;
    for (const outcome of outcomes) expect(outcome).toEqual(first as typeof outcome);
    expect(first?.before.accuracy).toBeLessThan(0.3);
    expect(first?.after.accuracy).toBeGreaterThan(0.8);
    expect(first?.difference).toBeGreaterThan(0);
    expect(first?.difference).toBeLessThan(1e-5);
    for (const { loss, stepLosses } of first?.epochs ?? []) {
      expect(stepLosses).toHaveLength(16);
      expect(stepLosses.reduce((sum, each) => sum + each) / 16).toBeCloseTo(loss, 10);
    }
  });

  test("each layer has a bucket of its own from the second step on", async () => {
    const seen = await localRanks(2, async ({ group }) => {
      const mlp = newMlp(options);
      const ddp = await DistributedDataParallel.create(mlp, { gradientAsBucketView: true, bucketCapMb });
      await new Trainer(mlp, ddp, some, options, group).runEpoch(0);
      return ddp.reducer.bucketIndices.map((bucket) => bucket.map((index) => ddp.parameters[index]?.name));
    });
    const layers = [
      ["b2", "w2"],
      ["b1", "w1"],
    ];
    expect(seen).toEqual([layers, layers]);
  });

  test("every rank detects a rank with one different bit", async () => {
    const parameters = (rank: number) => Float32Array.of(1, rank === 1 ? 2 + 2 ** -22 : 2, 3);
    const checks = localRanks(3, ({ group, rank }) => checkIdentical(group, parameters(rank)));
    const error = await checks.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LocalRanksError);
    const { failures } = error as LocalRanksError;
    expect(failures.map(({ rank }) => rank).sort()).toEqual([0, 1, 2]);
    for (const failure of failures) {
      expect(String(failure.error)).toContain("1 of 3 parameters differ between the 3 ranks");
    }
  });

  test("weights that one rank would not have reached are detected, even NaN", async () => {
    const short = { ...options, epochs: 1 };
    const reached = await trainAlone(some, short);
    const check = (change: number) => {
      const parameters = reached.slice();
      parameters[7] = (parameters[7] ?? 0) + change;
      return localRanks(1, ({ group }) => checkAgainstOneRank(group, some, short, parameters));
    };
    expect(await check(0)).toEqual([0]);
    await expect(check(2e-4)).rejects.toThrow("differs by 2.00e-4");
    await expect(check(Number.NaN)).rejects.toThrow("differs by Infinity");
  });

  test("the parts of an epoch's time add up to all steps", async () => {
    const times = await localRanks(2, async ({ group }) => {
      const mlp = newMlp(options);
      const ddp = await DistributedDataParallel.create(mlp, { gradientAsBucketView: true, bucketCapMb });
      const trainer = new Trainer(mlp, ddp, some, options, group);
      const steps: IterationTimes[] = [];
      const began = performance.now();
      const time = new EpochTime();
      let ended = began;
      await trainer.runEpoch(0, () => {
        steps.push(ddp.reducer.timer.times);
        time.add(ddp.reducer.timer.times);
        ended = performance.now();
      });
      return { time, steps, elapsedMs: ended - began };
    });
    for (const { time, steps, elapsedMs } of times) {
      expect(steps).toHaveLength(16);
      for (const { overlap, waited, backwardCompute, backwardComm } of steps) {
        expect(Math.min(overlap, waited)).toBeGreaterThan(0);
        // Each is rounded to a nanosecond.
        expect(Math.abs(overlap + waited - backwardComm)).toBeLessThanOrEqual(2);
        expect(overlap).toBeLessThanOrEqual(backwardCompute);
      }
      // The fake backend has no library whose times would be known.
      expect(new Set(steps.map(({ hidden }) => hidden))).toEqual(new Set([-1]));
      expect(time.hiddenMs).toBe(0);
      expect(time.waitedMs).toBeCloseTo(steps.reduce((sum, step) => sum + step.waited, 0) / 1e6, 6);
      expect(time.computeMs).toBeGreaterThan(0);
      expect(time.computeMs + time.hiddenMs + time.waitedMs).toBeCloseTo(time.totalMs, 6);
      expect(time.totalMs).toBeLessThanOrEqual(elapsedMs);
      const measured = steps.map((step) => step.forwardCompute + step.backwardCompute + step.waited);
      expect(time.totalMs).toBeGreaterThanOrEqual(measured.reduce((sum, ns) => sum + ns) / 1e6);
    }
  });

  test("too low an accuracy fails the job", () => {
    expect(() => checkAccuracy(0.9299)).toThrow("test accuracy is 92.99 %, below the 93.00 %");
    expect(() => checkAccuracy(Number.NaN)).toThrow();
    expect(() => checkAccuracy(0.93)).not.toThrow();
  });
});

describe("chart", () => {
  const epoch = {
    train: { loss: 0.5, accuracy: 0.9 },
    test: { loss: 0.6, accuracy: 0.88 },
    time: { computeMs: 80, hiddenMs: 12, waitedMs: 8, totalMs: 100 },
  };
  const data: ChartData = {
    title: "Loss & <accuracy>",
    subtitle: "2 ranks",
    stepLosses: [2.3, 1.1, 0.7, 0.55],
    epochs: [epoch, { ...epoch, train: { loss: 0.3, accuracy: 0.9 }, test: { loss: 0.6, accuracy: 0.945 } }],
  };

  test("is well-formed, with axes, legend and every point", () => {
    const svg = renderChart(data);
    expectWellFormed(svg);
    expect(svg).toContain("Loss &#38; &#60;accuracy&#62;");
    expect(svg.match(/<circle/g)).toHaveLength(8);
    expect(svg.match(/<polyline/g)).toHaveLength(5);
    const heights = Array.from(svg.matchAll(/<rect [^>]*height="([0-9.]+)" fill=/g), ([, height]) => Number(height));
    // The background, then the columns; the legend's squares have round corners.
    expect(heights.slice(1)).toEqual([96, 14.4, 9.6, 96, 14.4, 9.6]);
    for (const word of [
      "train",
      "test",
      "compute",
      "communication, hidden",
      "communication, waited for",
      "epoch",
      "94.5 %",
    ]) {
      expect(svg).toContain(`>${word}</text>`);
    }
  });

  test("is also well-formed for one epoch, for none, and for a training that diverged", () => {
    expectWellFormed(renderChart({ ...data, epochs: [epoch], stepLosses: [1] }));
    expectWellFormed(renderChart({ ...data, epochs: [], stepLosses: [] }));
    const lost = {
      ...epoch,
      train: { loss: Number.NaN, accuracy: 0.1 },
      test: { loss: Number.POSITIVE_INFINITY, accuracy: 0.1 },
    };
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

/** The gradients in the order of the parameters. */
async function gradientsOf(
  mlp: Mlp,
  images: Digits,
  indices: Uint32Array,
  scale: number,
  ready: (name: string, gradient: Float32Array) => void = () => {},
) {
  // Not zeros, so that a pass that does not clear them is noticed.
  const buffers = new Map(mlp.parameters.map(({ name, data }) => [name, new Float32Array(data.length).fill(9)]));
  const gradientBuffer = (name: string) => buffers.get(name);
  const result = await mlp.backward(images, indices, scale, { gradientBuffer }, { ready });
  return { result, gradients: [...buffers.values()] };
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
