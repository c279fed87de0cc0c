import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import * as dist from "bun-c10d";
import { DistributedDataParallel } from "bun-c10d/ddp";
import { type ChartEpoch, renderChart } from "./chart.ts";
import { loadDigits, splitDigits } from "./dataset.ts";
import { EpochTime } from "./epoch-time.ts";
import { parseOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { newMlp, Trainer } from "./trainer.ts";
import { checkAccuracy, checkAgainstOneRank, checkIdentical, percent } from "./verify.ts";

const TEST_IMAGES = 2000;
// The test digits do not depend on --seed, so that scores of different runs can be compared.
const SPLIT_SEED = 7;

const options = parseOptions(Bun.argv.slice(2));
const launched = process.env.WORLD_SIZE !== undefined;
await using group = await dist.initProcessGroup(
  launched ? { backend: "gloo" } : { backend: "gloo", store: new dist.HashStore(), rank: 0, worldSize: 1 },
);

// How much of the communication is hidden is known from the times in the native library.
group.enableCollectivesTiming();
const ranks = group.size === 1 ? "1 rank" : `${group.size} ranks`;
const log = (line: string) => {
  if (group.rank === 0) console.log(line);
};

const digits = splitDigits(await loadDigits(), TEST_IMAGES, SPLIT_SEED);
const mlp = newMlp(options);
// Buckets so small that each layer has its own: the last layer's gradients are exchanged while the first one's are computed.
const ddp = await DistributedDataParallel.create(mlp, { gradientAsBucketView: true, bucketCapMb: 1 / 1024 });
const trainer = new Trainer(mlp, ddp, digits.train, options, group);
log(
  `MNIST: ${digits.train.labels.length} training and ${TEST_IMAGES} test digits, ${ranks}, ` +
    `${mlp.weights().length} parameters, batch ${options.batch}, ${trainer.stepsPerEpoch} steps an epoch`,
);

const epochs: ChartEpoch[] = [];
const stepLosses: number[] = [];
const began = performance.now();
{
  using progress = group.rank === 0 ? new Progress(process.stdout, options.epochs, trainer.stepsPerEpoch) : undefined;
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    progress?.begin(epoch);
    const time = new EpochTime();
    const train = await trainer.runEpoch(epoch, (step, loss) => {
      time.add(ddp.reducer.timer.times);
      progress?.step(step, loss);
    });
    const test = await trainer.evaluate(digits.test);
    progress?.end(epoch, train, test, time);
    stepLosses.push(...train.stepLosses);
    epochs.push({ train, test, time });
  }
}
const accuracy = epochs.at(-1)?.test.accuracy ?? 0;
const seconds = (performance.now() - began) / 1000;

if (group.rank === 0) {
  const title = `MNIST on ${ranks} over Gloo`;
  const subtitle =
    `784-${options.hidden}-10, batch ${options.batch}, learning rate ${options.learningRate}, seed ${options.seed}: ` +
    `${percent(accuracy)} of ${TEST_IMAGES} test digits recognised, trained in ${seconds.toFixed(1)} s`;
  await mkdir(dirname(options.out), { recursive: true });
  await Bun.write(options.out, renderChart({ title, subtitle, stepLosses, epochs }));
}

// The chart is written before the checks, since the curves of a failed run are the interesting ones.
const weights = mlp.weights();
await checkIdentical(group, weights);
const checkBegan = performance.now();
const difference = await checkAgainstOneRank(group, digits.train, options, weights);
const checkSeconds = (performance.now() - checkBegan) / 1000;
checkAccuracy(accuracy);

const sum = (part: keyof ChartEpoch["time"]) => epochs.reduce((total, { time }) => total + time[part], 0);
const inSeconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
log(`test accuracy         ${percent(accuracy)}`);
log(`weights               bit-identical on ${ranks}`);
log(
  `against one rank      largest difference ${difference.toExponential(1)} (one-rank run: ${checkSeconds.toFixed(1)} s)`,
);
log(
  `training              ${seconds.toFixed(1)} s, ${stepLosses.length} steps; rank 0: compute ${inSeconds(sum("computeMs"))}, ` +
    `communication ${inSeconds(sum("hiddenMs"))} hidden, ${inSeconds(sum("waitedMs"))} waited for ` +
    `(${(sum("waitedMs") / stepLosses.length).toFixed(2)} ms a step for ${(weights.byteLength / 1024).toFixed(0)} KiB)`,
);
log(`curves                ${options.out}`);
