// c10d run -n 2 examples/ddp-jax/main.ts
import assert from "node:assert/strict";
import * as jax from "@jax-js/jax";
import * as dist from "bun-c10d";
import { DistributedSampler } from "bun-c10d/ddp";
import { dataParallel } from "bun-c10d/ddp/jax";
import { CLASSES, type Digits, loadDigits, PIXELS, splitDigits } from "../mnist/dataset.ts";

const EPOCHS = 3;
/** Digits in a batch, over all ranks. */
const BATCH = 64;
const LEARNING_RATE = 0.2;
const MIN_ACCURACY = 0.9;
const np = jax.numpy;

type Params = { kernel: jax.Array; shift: jax.Array; dense: jax.Array; bias: jax.Array };

await jax.init("wasm");
jax.defaultDevice("wasm");
await dist.initProcessGroup({ backend: "gloo" });
const [rank, worldSize] = [dist.getRank(), dist.getWorldSize()];

const logitsOf = (params: Params, images: jax.Array): jax.Array => {
  const [count = 0] = images.shape;
  const hidden = jax.lax.conv(images, params.kernel, [2, 2], "VALID").add(params.shift);
  return np.matmul(jax.nn.relu(hidden).reshape([count, -1]), params.dense).add(params.bias);
};
const lossOf = (params: Params, images: jax.Array, targets: jax.Array): jax.Array =>
  np.mean(np.sum(targets.mul(jax.nn.logSoftmax(logitsOf(params, images))), -1)).neg();

// Each rank draws other numbers: all get those of rank 0.
const [first, second] = jax.random.split(jax.random.key(rank)) as unknown as [jax.Array, jax.Array];
const initial: Params = {
  kernel: jax.random.normal(first, [8, 1, 5, 5]).mul(0.2),
  shift: np.zeros([8, 1, 1]),
  dense: jax.random.normal(second, [8 * 12 * 12, CLASSES]).mul(0.03),
  bias: np.zeros([CLASSES]),
};

const { train, test } = splitDigits(await loadDigits(), 2000, 1);
const sampler = new DistributedSampler(train.labels, { seed: 1, dropLast: true });
const count = Math.floor(BATCH / worldSize);
const ddp = await dataParallel(jax, initial);
const gradients = jax.jit(jax.valueAndGrad(lossOf));
const descend = jax.jit((params: Params, grads: Params) =>
  jax.tree.map((p: jax.Array, g: jax.Array) => p.sub(g.mul(LEARNING_RATE)), params, grads),
);
let { params } = ddp;
let taken = 0;
const began = performance.now();

for (let epoch = 0; epoch < EPOCHS; epoch++) {
  sampler.setEpoch(epoch);
  const indices = [...sampler];
  const steps = Math.floor(indices.length / count);
  let sum = 0;
  for (let step = 0; step < steps; step++) {
    const batch = indices.slice(step * count, (step + 1) * count);
    const labels = np.array(Int32Array.from(batch, (i) => train.labels[i] ?? 0));
    const [loss, local] = gradients(jax.tree.ref(params), imagesOf(train, batch), jax.nn.oneHot(labels, CLASSES));
    const grads = await ddp.average(local);
    params = descend(params, grads);
    sum += (await loss.data())[0] ?? Number.NaN;
  }
  taken += steps;
  const mean = Float64Array.of(sum / steps);
  await dist.allReduce(mean, { op: dist.ReduceOp.AVG });
  if (rank === 0) console.log(`epoch ${epoch + 1}: loss ${mean[0]?.toFixed(3)}`);
}
const milliseconds = (performance.now() - began) / taken;

// The weights of all ranks have the same bits.
const hasher = new Bun.CryptoHasher("sha256");
for (const array of Object.values(jax.tree.ref(params))) hasher.update(await array.data());
const digests = await dist.allGatherObject(hasher.digest("hex"));
assert.equal(new Set(digests).size, 1, "the weights differ between ranks");

// Each rank recognises a part of the test digits.
const own = Array.from(test.labels.keys()).filter((index) => index % worldSize === rank);
const guesses = await np.argmax(logitsOf(params, imagesOf(test, own)), 1).data();
const hits = Float64Array.of(own.filter((index, i) => guesses[i] === test.labels[index]).length);
await dist.allReduce(hits);
const accuracy = (hits[0] ?? 0) / test.labels.length;
assert(accuracy >= MIN_ACCURACY, `only ${(100 * accuracy).toFixed(1)} % of the test digits are recognised`);
if (rank === 0) {
  const figures = `${milliseconds.toFixed(1)} ms a step, ${(100 * accuracy).toFixed(1)} % of ${test.labels.length} test digits`;
  console.log(`${worldSize} ranks on ${jax.defaultDevice()}: ${figures}; weights are bit-identical`);
}
await dist.destroyProcessGroup();
// The threads of jax-js would keep the process alive.
process.exit();

function imagesOf(digits: Digits, indices: readonly number[]): jax.Array {
  const pixels = new Float32Array(indices.length * PIXELS);
  for (const [i, from] of indices.entries()) {
    pixels.set(digits.pixels.subarray(from * PIXELS, (from + 1) * PIXELS), i * PIXELS);
  }
  return np.array(pixels, { shape: [indices.length, 1, 28, 28] });
}
