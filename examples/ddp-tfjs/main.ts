// c10d run -n 2 examples/ddp-tfjs/main.ts
import assert from "node:assert/strict";
import { dirname } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import * as dist from "bun-c10d";
import { DistributedSampler } from "bun-c10d/ddp";
import { dataParallel } from "bun-c10d/ddp/tfjs";
import { CLASSES, type Digits, loadDigits, PIXELS, splitDigits } from "../mnist/dataset.ts";

const EPOCHS = 2;
/** Digits in a batch, over all ranks. */
const BATCH = 64;
const MIN_ACCURACY = 0.9;

setWasmPaths(`${dirname(Bun.resolveSync("@tensorflow/tfjs-backend-wasm/package.json", import.meta.dir))}/dist/`);
await tf.setBackend("wasm");
await using _group = await dist.initProcessGroup({ backend: "gloo" });
const [rank, worldSize] = [dist.getRank(), dist.getWorldSize()];

// Each rank draws other numbers: all get those of rank 0.
const kernelInitializer = tf.initializers.glorotUniform({ seed: 1 + rank });
// Backend wasm has no gradient of conv2d. A conv3d of depth 1 is the same convolution; its gradient is wrong with strides.
const model = tf.sequential({
  layers: [
    tf.layers.conv3d({
      inputShape: [1, 28, 28, 1],
      filters: 8,
      kernelSize: [1, 3, 3],
      activation: "relu",
      kernelInitializer,
    }),
    tf.layers.averagePooling3d({ poolSize: [1, 2, 2], strides: [1, 2, 2] }),
    tf.layers.flatten(),
    tf.layers.dense({ units: 32, activation: "relu", kernelInitializer }),
    tf.layers.dense({ units: CLASSES, kernelInitializer }),
  ],
});

const { train, test } = splitDigits(await loadDigits(), 2000, 1);
const sampler = new DistributedSampler(train.labels, { seed: 1, dropLast: true });
const count = Math.floor(BATCH / worldSize);
const ddp = await dataParallel(tf, model, { gradientAsBucketView: true });
const optimizer: tf.Optimizer = tf.train.adam(0.006);
const tensors: number[] = [];
const began = performance.now();

for (let epoch = 0; epoch < EPOCHS; epoch++) {
  sampler.setEpoch(epoch);
  const indices = [...sampler];
  let sum = 0;
  const steps = Math.floor(indices.length / count);
  for (let step = 0; step < steps; step++) {
    const batch = indices.slice(step * count, (step + 1) * count);
    const { value, grads } = await ddp.variableGrads(() => {
      const targets = tf.oneHot(tf.tensor1d(Int32Array.from(batch, (i) => train.labels[i] ?? 0)), CLASSES);
      return tf.losses.softmaxCrossEntropy(targets, predict(train, batch)) as tf.Scalar;
    });
    optimizer.applyGradients(grads);
    sum += value.dataSync()[0] ?? Number.NaN;
    tf.dispose([value, grads]);
    tensors.push(tf.memory().numTensors);
  }
  const loss = Float64Array.of(sum / steps);
  await dist.allReduce(loss, { op: dist.ReduceOp.AVG });
  if (rank === 0) console.log(`epoch ${epoch + 1}: loss ${loss[0]?.toFixed(3)}`);
}
const milliseconds = (performance.now() - began) / tensors.length;

// The weights of all ranks have the same bits.
const hasher = new Bun.CryptoHasher("sha256");
for (const weight of model.getWeights()) hasher.update(weight.dataSync());
const digests = await dist.allGatherObject(hasher.digest("hex"));
assert.equal(new Set(digests).size, 1, "the weights differ between ranks");
assert.equal(new Set(tensors).size, 1, "tensors were left over");

// Each rank recognises a part of the test digits.
const own = Array.from(test.labels.keys()).filter((index) => index % worldSize === rank);
const guesses = tf.tidy(() => tf.argMax(predict(test, own), 1).dataSync());
const hits = Float64Array.of(own.filter((index, i) => guesses[i] === test.labels[index]).length);
await dist.allReduce(hits);
const accuracy = (hits[0] ?? 0) / test.labels.length;
assert(accuracy >= MIN_ACCURACY, `only ${(100 * accuracy).toFixed(1)} % of the test digits are recognised`);
if (rank === 0) {
  const figures = `${milliseconds.toFixed(1)} ms a step, ${(100 * accuracy).toFixed(1)} % of ${test.labels.length} test digits`;
  console.log(`${worldSize} ranks on ${tf.getBackend()}: ${figures}; weights are bit-identical`);
}

function predict(digits: Digits, indices: readonly number[]): tf.Tensor2D {
  const pixels = new Float32Array(indices.length * PIXELS);
  for (const [i, from] of indices.entries()) {
    pixels.set(digits.pixels.subarray(from * PIXELS, (from + 1) * PIXELS), i * PIXELS);
  }
  return model.apply(tf.tensor(pixels, [indices.length, 1, 28, 28, 1])) as tf.Tensor2D;
}
