/** A rank in Bun: the same training as trainer.py, with the network and its gradients in TypeScript. */
import * as dist from "bun-c10d";
import { DistributedDataParallel, DistributedSampler } from "bun-c10d/ddp";
import { Network } from "./network.ts";
import { POINTS } from "./points.ts";

const EPOCHS = Number(process.env.EPOCHS ?? 4);
const BATCH = 12;
const LEARNING_RATE = Math.fround(0.25);
/** Largest difference of two ranks' weights after any step. */
const TOLERANCE = 1e-6;

await using _group = await dist.initProcessGroup({ backend: "gloo" });
const network = new Network();
// All ranks begin with the weights of rank 0.
const ddp = await DistributedDataParallel.create(network);
const sampler = new DistributedSampler(POINTS, { seed: 3 });
const [rank, worldSize] = [dist.getRank(), dist.getWorldSize()];
let largest = 0;
let steps = 0;

for (let epoch = 0; epoch < EPOCHS; epoch++) {
  sampler.setEpoch(epoch);
  const own = [...sampler];
  let total = 0;
  for (let start = 0; start < own.length; start += BATCH) {
    total += await ddp.step((pass) => network.loss(own.slice(start, start + BATCH), pass));
    for (const { name, data } of network.parameters) {
      const gradient = ddp.gradient(name) as Float32Array;
      for (const [i, value] of gradient.entries()) data[i] = (data[i] as number) - LEARNING_RATE * value;
    }
    largest = Math.max(largest, await differenceFromRank0());
    steps++;
  }
  const mean = Float64Array.of((total * BATCH) / own.length / worldSize);
  await dist.allReduce(mean);
  if (rank === 0) console.log(`epoch ${epoch + 1}: loss ${(mean[0] ?? Number.NaN).toFixed(4)}`);
}
if (!(largest <= TOLERANCE)) throw new Error(`rank ${rank}: a weight differs by ${largest} from that of rank 0`);
// Only ranks in Python train a second model by themselves.
const differences = Float64Array.of(largest, 0);
await dist.allReduce(differences, { op: dist.ReduceOp.MAX });
const pythons = Int32Array.of(0);
await dist.allReduce(pythons);
if (rank === 0) {
  const [between = Number.NaN, alone = Number.NaN] = differences;
  const [inPython = 0] = pythons;
  console.log(`${steps} steps by ${inPython} in PyTorch, ${worldSize - inPython} in Bun`);
  console.log(
    `weights after every step: largest difference between ranks ${between.toExponential(1)}, ` +
      `from one process ${alone.toExponential(1)}`,
  );
}
await dist.destroyProcessGroup();

/** Largest difference of this rank's weights from those of rank 0. */
async function differenceFromRank0(): Promise<number> {
  const own = network.parameters.flatMap(({ data }) => [...data]);
  const theirs = Float32Array.from(own);
  await dist.broadcast(theirs, { src: 0 });
  return theirs.reduce((most, value, i) => Math.max(most, Math.abs(value - (own[i] ?? Number.NaN))), 0);
}
