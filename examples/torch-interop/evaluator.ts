/** Any rank of the job except 0: evaluates the trainer's weights on its share of the test images. */
import * as dist from "bun-c10d";
import { Mlp } from "../mnist/mlp.ts";

await using group = await dist.initProcessGroup({ backend: "gloo", timeout: "5m" });
const evaluator = group.rank - 1;
const evaluators = group.size - 1;

const sizes = new BigInt64Array(4); // torch.tensor() of integers is int64
await dist.broadcast(sizes, { src: 0 });
const [count = 0, inputs = 0, hidden = 0, outputs = 0] = Array.from(sizes, Number);
const pixels = new Float32Array(count * inputs);
const labels = new BigInt64Array(count);
await dist.broadcast(pixels, { src: 0 });
await dist.broadcast(labels, { src: 0 });

const digits = { pixels, labels: Uint8Array.from(labels, Number) };
const own = Uint32Array.from({ length: count }, (_, i) => i).filter((i) => i % evaluators === evaluator);
const byDigit = Array.from({ length: outputs }, (_, digit) => own.filter((i) => digits.labels[i] === digit));
const model = new Mlp(inputs, hidden, outputs, 0);
const weights = dist.empty("float32", model.weights().length);
const epoch = new BigInt64Array(1);

for (;;) {
  await dist.broadcast(epoch, { src: 0 });
  if (epoch[0] === 0n) break; // the trainer is done
  await dist.broadcast(weights, { src: 0 });
  let start = 0;
  for (const { data } of model.parameters) {
    data.set(weights.subarray(start, start + data.length));
    start += data.length;
  }
  const results = byDigit.map((images) => model.evaluate(digits, images));
  const hits = BigInt64Array.from(results, ({ correct }) => BigInt(correct));
  const loss = results.reduce((sum, each) => sum + each.loss, 0);
  await dist.gather(hits, { dst: 0 });
  await dist.allReduce(Float64Array.of(loss, own.length));
}
