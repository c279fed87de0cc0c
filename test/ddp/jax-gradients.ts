// Which operations of jax-js have gradients in Bun.
import * as jax from "@jax-js/jax";

const np = jax.numpy;
type Operation = readonly [shape: number[], apply: (x: jax.Array) => jax.Array];

const filled = (shape: number[], value: (i: number) => number): jax.Array => {
  const length = shape.reduce((product, n) => product * n, 1);
  return np.array(
    Float32Array.from({ length }, (_, i) => value(i)),
    { shape },
  );
};
const ramp = (shape: number[]) => filled(shape, (i) => i / 10);

/** Operations, with the shape of the parameter. */
const operations: Readonly<Record<string, Operation>> = {
  matmul: [[4, 4], (x) => np.matmul(x.ref, x)],
  dot: [[4, 4], (x) => np.dot(x.ref, x)],
  einsum: [[4, 4], (x) => np.einsum("ij,kj->ik", x.ref, x)],
  conv1d: [[2, 1, 3], (w) => jax.lax.conv(ramp([1, 1, 8]), w, [1], "SAME")],
  conv2d: [[2, 1, 3, 3], (w) => jax.lax.conv(ramp([1, 1, 8, 8]), w, [1, 1], "SAME")],
  conv2dStrides: [[2, 1, 3, 3], (w) => jax.lax.conv(ramp([1, 1, 8, 8]), w, [2, 2], "VALID")],
  conv2dInput: [[1, 1, 8, 8], (x) => jax.lax.conv(x, ramp([2, 1, 3, 3]), [2, 2], "VALID")],
  conv3d: [[2, 1, 2, 3, 3], (w) => jax.lax.conv(ramp([1, 1, 4, 8, 8]), w, [1, 1, 1], "VALID")],
  depthwise: [
    [2, 1, 3, 3],
    (w) => jax.lax.convGeneralDilated(ramp([1, 2, 8, 8]), w, [1, 1], "SAME", { featureGroupCount: 2 }),
  ],
  convTranspose: [[1, 2, 3, 3], (w) => jax.lax.convTranspose(ramp([1, 2, 4, 4]), w, [2, 2], "SAME")],
  maxPool: [[1, 1, 8, 8], (x) => jax.lax.reduceWindow(x, (window) => np.max(window), [2, 2], [2, 2])],
  maxPoolOverlapping: [[1, 1, 8, 8], (x) => jax.lax.reduceWindow(x, (window) => np.max(window), [3, 3], [2, 2])],
  avgPool: [[1, 1, 8, 8], (x) => jax.lax.reduceWindow(x, (window) => np.mean(window), [2, 2], [2, 2])],
  gather: [[5, 3], (x) => x.slice(np.array(Int32Array.of(1, 1, 4)))],
  slice: [[4, 3], (x) => x.slice([1, 3], [0, 2])],
  softmax: [[4, 3], (x) => jax.nn.softmax(x)],
  logSoftmax: [[4, 3], (x) => jax.nn.logSoftmax(x)],
  logsumexp: [[4, 3], (x) => jax.nn.logsumexp(x, 1)],
  relu: [[4, 3], (x) => jax.nn.relu(x)],
  elu: [[4, 3], (x) => jax.nn.elu(x)],
  gelu: [[4, 3], (x) => jax.nn.gelu(x)],
  tanh: [[4, 3], (x) => np.tanh(x)],
  sigmoid: [[4, 3], (x) => jax.nn.sigmoid(x)],
  softplus: [[4, 3], (x) => jax.nn.softplus(x)],
  erf: [[4, 3], (x) => jax.lax.erf(x)],
  standardize: [[4, 3], (x) => jax.nn.standardize(x)],
  dotProductAttention: [[1, 4, 1, 3], (x) => jax.nn.dotProductAttention(x.ref, x.ref, x)],
  concatenate: [[4, 3], (x) => np.concatenate([x.ref, x], 1)],
  tile: [[4, 3], (x) => np.tile(x, [2, 1])],
  transpose: [[4, 3], (x) => np.transpose(x)],
  cumsum: [[4, 3], (x) => np.cumsum(x, 0)],
  max: [[4, 3], (x) => np.max(x, 1)],
  where: [[4, 3], (x) => np.where(x.ref.greater(0), x, 0)],
  vmap: [[4, 3], (x) => jax.vmap((row: jax.Array) => np.tanh(row))(x)],
  sort: [[4, 3], (x) => np.sort(x)],
  topK: [
    [4, 3],
    (x) => {
      const [values, indices] = jax.lax.topK(x, 2);
      indices.dispose();
      return values;
    },
  ],
  cholesky: [[3, 3], (x) => jax.lax.linalg.cholesky(np.matmul(x.ref, np.transpose(x)).add(np.eye(3)))],
  solve: [[3, 3], (x) => np.linalg.solve(x.add(np.eye(3).mul(3)), ramp([3]))],
};

/** How many operations are tried. */
export const tried: number = Object.keys(operations).length;

/** Names of the operations that have no gradient, by itself and in `jax.jit`. Throws if devices disagree. */
export async function failing(): Promise<{ readonly plain: string[]; readonly jitted: string[] }> {
  await jax.init("cpu", "wasm");
  const plain: string[] = [];
  const jitted: string[] = [];
  for (const [name, [shape, apply]] of Object.entries(operations)) {
    const gradient = jax.grad((x: jax.Array) => np.sum(np.square(apply(x))));
    const results: ArrayLike<number>[] = [];
    for (const device of ["cpu", "wasm"] as const) {
      jax.defaultDevice(device);
      for (const [lacking, compute] of [
        [plain, gradient],
        [jitted, jax.jit(gradient)],
      ] as const) {
        try {
          const x = filled(shape, (i) => Math.sin(1 + i * 1.3));
          results.push(compute(x).dataSync());
        } catch (error) {
          if (!/^jit: routine primitive/.test(error instanceof Error ? error.message : "")) throw error;
          if (!lacking.includes(name)) lacking.push(name);
        }
      }
    }
    const [first, ...others] = results;
    for (const other of others) {
      const isEqual = Array.from(first ?? []).every(
        (value, i) => Math.abs(value - (other[i] ?? Number.NaN)) < 1e-4 * (1 + Math.abs(value)),
      );
      if (!isEqual) throw new Error(`the gradient of ${name} differs between devices, or with jit`);
    }
  }
  return { plain: plain.sort(), jitted: jitted.sort() };
}
