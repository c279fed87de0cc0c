import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import * as dist from "bun-c10d";
import { type ChartEpoch, renderChart } from "./chart.ts";
import { loadDigits, splitDigits } from "./dataset.ts";
import { parseOptions } from "./options.ts";
import type { Peers } from "./peers.ts";
import { Progress } from "./progress.ts";
import { Trainer } from "./trainer.ts";
import { checkAccuracy, checkAgainstOneRank, checkIdentical, percent } from "./verify.ts";

const TEST_IMAGES = 2000;
// The test digits do not depend on --seed, so that scores of different runs can be compared.
const SPLIT_SEED = 7;

const options = parseOptions(Bun.argv.slice(2));
const launched = process.env.WORLD_SIZE !== undefined;
await using _group = await dist.initProcessGroup(
  launched ? { backend: "gloo" } : { backend: "gloo", store: new dist.HashStore(), rank: 0, worldSize: 1 },
);

const peers: Peers = {
  rank: dist.getRank(),
  worldSize: dist.getWorldSize(),
  average: async (values) => void (await dist.allReduce(values, { op: dist.ReduceOp.AVG })),
  sum: async (values) => void (await dist.allReduce(values, { op: dist.ReduceOp.SUM })),
  min: async (values) => void (await dist.allReduce(values, { op: dist.ReduceOp.MIN })),
  max: async (values) => void (await dist.allReduce(values, { op: dist.ReduceOp.MAX })),
};
const ranks = peers.worldSize === 1 ? "1 rank" : `${peers.worldSize} ranks`;
const log = (line: string) => {
  if (peers.rank === 0) console.log(line);
};

const digits = splitDigits(await loadDigits(), TEST_IMAGES, SPLIT_SEED);
const trainer = new Trainer(peers, digits.train, options);
await dist.broadcast(trainer.parameters, { src: 0 });
log(
  `MNIST: ${digits.train.labels.length} training and ${TEST_IMAGES} test digits, ${ranks}, ` +
    `${trainer.parameters.length} parameters, batch ${options.batch}, ${trainer.stepsPerEpoch} steps an epoch`,
);

const epochs: ChartEpoch[] = [];
const stepLosses: number[] = [];
let accuracy = 0;
const began = performance.now();
{
  using progress = peers.rank === 0 ? new Progress(process.stdout, options.epochs, trainer.stepsPerEpoch) : undefined;
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    progress?.begin(epoch);
    const trained = await trainer.runEpoch(epoch, (step, loss) => progress?.step(step, loss));
    const test = await trainer.evaluate(digits.test);
    progress?.end(epoch, trained, test);
    accuracy = test.accuracy;
    stepLosses.push(...trained.stepLosses);
    epochs.push({
      trainLoss: trained.loss,
      testLoss: test.loss,
      trainAccuracy: trained.accuracy,
      testAccuracy: test.accuracy,
      computeMs: trained.computeMs,
      communicationMs: trained.communicationMs,
    });
  }
}
const seconds = (performance.now() - began) / 1000;

if (peers.rank === 0) {
  const title = `MNIST on ${ranks} over Gloo`;
  const subtitle =
    `784-${options.hidden}-10, batch ${options.batch}, learning rate ${options.learningRate}, seed ${options.seed}: ` +
    `${percent(accuracy)} of ${TEST_IMAGES} test digits recognised, trained in ${seconds.toFixed(1)} s`;
  await mkdir(dirname(options.out), { recursive: true });
  await Bun.write(options.out, renderChart({ title, subtitle, stepLosses, epochs }));
}

// The chart is written before the checks, since the curves of a failed run are the interesting ones.
await checkIdentical(peers, trainer.parameters);
const checkBegan = performance.now();
const difference = await checkAgainstOneRank(peers, digits.train, options, trainer.parameters);
const checkSeconds = (performance.now() - checkBegan) / 1000;
checkAccuracy(accuracy);

const computeMs = epochs.reduce((sum, epoch) => sum + epoch.computeMs, 0);
const communicationMs = epochs.reduce((sum, epoch) => sum + epoch.communicationMs, 0);
const share = communicationMs / (computeMs + communicationMs);
log(`test accuracy         ${percent(accuracy)}`);
log(`weights               bit-identical on ${ranks}`);
log(
  `against one rank      largest difference ${difference.toExponential(1)} (one-rank run: ${checkSeconds.toFixed(1)} s)`,
);
log(
  `training              ${seconds.toFixed(1)} s, ${stepLosses.length} steps; rank 0: compute ${(computeMs / 1000).toFixed(2)} s, ` +
    `communication ${(communicationMs / 1000).toFixed(2)} s (${percent(share)}), ` +
    `${(communicationMs / stepLosses.length).toFixed(2)} ms a step for ${(trainer.parameters.byteLength / 1024).toFixed(0)} KiB, waiting included`,
);
log(`curves                ${options.out}`);

await dist.destroyProcessGroup();
