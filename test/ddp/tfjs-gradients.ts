// Which operations of TensorFlow.js have gradients in Bun.
import * as tf from "@tensorflow/tfjs";
import { useBackend } from "./fixtures/tfjs.ts";

type Operation = readonly [shape: number[], apply: (x: tf.Tensor) => tf.Tensor];

const image = (channels = 1): tf.Tensor4D => tf.reshape(tf.range(0, 64 * channels), [1, 8, 8, channels]);
const initializer = () => tf.initializers.randomNormal({ seed: 5 });

/** Operations, with the shape of the variable. */
const operations: Readonly<Record<string, Operation>> = {
  matMul: [[4, 4], (x) => tf.matMul(x, x)],
  fusedMatMul: [[4, 4], (x) => tf.fused.matMul({ a: x, b: x, activation: "relu" })],
  einsum: [[4, 4], (x) => tf.einsum("ij,kj->ik", x, x)],
  conv1d: [
    [3, 2, 2],
    (w) => tf.conv1d(tf.reshape(tf.range(0, 16), [1, 8, 2]) as tf.Tensor3D, w as tf.Tensor3D, 1, "same"),
  ],
  conv2d: [[3, 3, 1, 2], (w) => tf.conv2d(image(), w as tf.Tensor4D, 1, "same")],
  conv2dStrides: [[3, 3, 1, 2], (w) => tf.conv2d(image(), w as tf.Tensor4D, 2, "valid")],
  conv2dInput: [[1, 8, 8, 1], (x) => tf.conv2d(x as tf.Tensor4D, tf.ones([3, 3, 1, 2]), 1, "same")],
  fusedConv2d: [
    [3, 3, 1, 2],
    (w) => tf.fused.conv2d({ x: image(), filter: w as tf.Tensor4D, strides: 1, pad: "same", activation: "relu" }),
  ],
  conv2dTranspose: [[3, 3, 2, 1], (w) => tf.conv2dTranspose(image(), w as tf.Tensor4D, [1, 8, 8, 2], 1, "same")],
  depthwiseConv2d: [[3, 3, 1, 2], (w) => tf.depthwiseConv2d(image(), w as tf.Tensor4D, 1, "same")],
  separableConv2d: [
    [1, 1, 2, 3],
    (w) => tf.separableConv2d(image(), tf.ones([3, 3, 1, 2]), w as tf.Tensor4D, 1, "same"),
  ],
  conv3d: [[1, 3, 3, 1, 2], (w) => tf.conv3d(tf.expandDims(image(), 1), w as tf.Tensor5D, 1, "same")],
  conv3dStrides: [[1, 3, 3, 1, 2], (w) => tf.conv3d(tf.expandDims(image(), 1), w as tf.Tensor5D, [1, 2, 2], "valid")],
  conv3dInput: [[1, 1, 8, 8, 1], (x) => tf.conv3d(x as tf.Tensor5D, tf.ones([1, 3, 3, 1, 2]), 1, "same")],
  conv3dChannels: [[1, 3, 3, 3, 4], (w) => tf.conv3d(tf.expandDims(image(3), 1), w as tf.Tensor5D, 1, "valid")],
  conv3dInputChannels: [[2, 1, 6, 6, 3], (x) => tf.conv3d(x as tf.Tensor5D, tf.ones([1, 3, 3, 3, 4]), 1, "valid")],
  conv3dInputStrides: [
    [1, 1, 8, 8, 1],
    (x) => tf.conv3d(x as tf.Tensor5D, tf.ones([1, 3, 3, 1, 2]), [1, 2, 2], "valid"),
  ],
  conv2dInputStrides: [[2, 8, 8, 3], (x) => tf.conv2d(x as tf.Tensor4D, tf.ones([3, 3, 3, 2]), 2, "valid")],
  maxPoolOverlapping: [[1, 8, 8, 2], (x) => tf.maxPool(x as tf.Tensor4D, 3, 2, "same")],
  avgPoolOverlapping: [[1, 8, 8, 2], (x) => tf.avgPool(x as tf.Tensor4D, 3, 2, "same")],
  avgPool3d: [[2, 1, 8, 8, 2], (x) => tf.avgPool3d(x as tf.Tensor5D, [1, 2, 2], [1, 2, 2], "valid")],
  maxPool: [[1, 8, 8, 1], (x) => tf.maxPool(x as tf.Tensor4D, 2, 2, "valid")],
  avgPool: [[1, 8, 8, 1], (x) => tf.avgPool(x as tf.Tensor4D, 2, 2, "valid")],
  maxPool3d: [[1, 2, 8, 8, 1], (x) => tf.maxPool3d(x as tf.Tensor5D, 2, 2, "valid")],
  gather: [[5, 3], (x) => tf.gather(x, tf.tensor1d([1, 1, 4], "int32"))],
  oneHotRows: [[5, 3], (x) => tf.matMul(tf.cast(tf.oneHot(tf.tensor1d([1, 1, 4], "int32"), 5), "float32"), x)],
  gatherND: [[4, 3], (x) => tf.gatherND(x, tf.tensor2d([[1, 2]], [1, 2], "int32"))],
  batchNorm: [[4, 3], (x) => tf.batchNorm(x, tf.zeros([3]), tf.ones([3]), tf.zeros([3]), tf.ones([3]))],
  layerNorm: [[4, 3], (x) => tf.layers.layerNormalization().apply(x) as tf.Tensor],
  lstm: [
    [2, 4, 3],
    (x) =>
      tf.layers
        .lstm({ units: 3, kernelInitializer: initializer(), recurrentInitializer: initializer() })
        .apply(x) as tf.Tensor,
  ],
  gru: [
    [2, 4, 3],
    (x) =>
      tf.layers
        .gru({ units: 3, kernelInitializer: initializer(), recurrentInitializer: initializer() })
        .apply(x) as tf.Tensor,
  ],
  localResponseNormalization: [[1, 4, 4, 3], (x) => tf.localResponseNormalization(x as tf.Tensor4D)],
  moments: [[4, 3], (x) => tf.moments(x, 0).variance],
  softmax: [[4, 3], (x) => tf.softmax(x)],
  logSoftmax: [[4, 3], (x) => tf.logSoftmax(x)],
  relu: [[4, 3], (x) => tf.relu(x)],
  leakyRelu: [[4, 3], (x) => tf.leakyRelu(x)],
  prelu: [[4, 3], (x) => tf.prelu(x, tf.fill([3], 0.2))],
  elu: [[4, 3], (x) => tf.elu(x)],
  selu: [[4, 3], (x) => tf.selu(x)],
  tanh: [[4, 3], (x) => tf.tanh(x)],
  sigmoid: [[4, 3], (x) => tf.sigmoid(x)],
  softplus: [[4, 3], (x) => tf.softplus(x)],
  erf: [[4, 3], (x) => tf.erf(x)],
  dropout: [[4, 3], (x) => tf.dropout(x, 0.5, undefined, 3)],
  concat: [[4, 3], (x) => tf.concat([x, x], 1)],
  slice: [[4, 3], (x) => tf.slice(x, [1, 0], [2, 2])],
  stridedSlice: [[4, 4], (x) => tf.stridedSlice(x, [0, 0], [4, 4], [2, 2])],
  pad: [
    [4, 3],
    (x) =>
      tf.pad(x, [
        [1, 1],
        [1, 1],
      ]),
  ],
  tile: [[4, 3], (x) => tf.tile(x, [2, 1])],
  transpose: [[4, 3], (x) => tf.transpose(x)],
  cumsum: [[4, 3], (x) => tf.cumsum(x, 0)],
  cumsumLast: [[4, 3], (x) => tf.cumsum(x, 1)],
  resizeBilinear: [[1, 4, 4, 1], (x) => tf.image.resizeBilinear(x as tf.Tensor4D, [8, 8])],
  whereGreater: [[4, 3], (x) => tf.where(tf.greater(x, 0), x, tf.zeros([4, 3]))],
  clipByValue: [[4, 3], (x) => tf.clipByValue(x, -0.5, 0.5)],
  topk: [[4, 3], (x) => tf.topk(x, 2).values],
  max: [[4, 3], (x) => tf.max(x, 1)],
  mean: [[4, 3], (x) => tf.mean(x, 1)],
  norm: [[4, 3], (x) => tf.norm(x)],
  rfft: [[4], (x) => tf.abs(tf.spectral.rfft(x))],
  softmaxCrossEntropy: [
    [4, 3],
    (x) => tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d([0, 1, 2, 0], "int32"), 3), x),
  ],
  huberLoss: [[4, 3], (x) => tf.losses.huberLoss(tf.zeros([4, 3]), x)],
};

/** How many operations are tried. */
export const tried: number = Object.keys(operations).length;

/** Names of operations, sorted: those that have no gradient on a backend, and those for which the two differ. */
export interface Gradients {
  readonly cpu: readonly string[];
  readonly wasm: readonly string[];
  readonly different: readonly string[];
  /** The gradients on cpu. */
  readonly values: ReadonlyMap<string, Float32Array>;
}

/** Tries all operations on both backends. */
export async function tryGradients(): Promise<Gradients> {
  const [cpu, wasm] = [await gradientsOn("cpu"), await gradientsOn("wasm")];
  const names = Object.keys(operations).sort();
  const differ = (name: string): boolean => {
    const [one, other] = [cpu.get(name), wasm.get(name)];
    if (one === undefined || other === undefined) return false;
    return one.some((value, i) => !(Math.abs(value - (other[i] ?? Number.NaN)) < 1e-4 * (1 + Math.abs(value))));
  };
  return {
    cpu: names.filter((name) => !cpu.has(name)),
    wasm: names.filter((name) => !wasm.has(name)),
    different: names.filter(differ),
    values: cpu,
  };
}

async function gradientsOn(backend: "cpu" | "wasm"): Promise<Map<string, Float32Array>> {
  await useBackend(backend);
  const gradients = new Map<string, Float32Array>();
  for (const [name, [shape, apply]] of Object.entries(operations)) {
    const length = shape.reduce((product, n) => product * n, 1);
    const values = Float32Array.from({ length }, (_, i) => Math.sin(1 + i * 1.3));
    const variable = tf.variable(tf.tensor(values, shape), true, `${name} on ${backend}`);
    try {
      const { grads } = tf.variableGrads(() => tf.sum(tf.square(apply(variable))) as tf.Scalar, [variable]);
      const gradient = grads[variable.name];
      if (gradient !== undefined) gradients.set(name, Float32Array.from(gradient.dataSync()));
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (!/not registered for backend|Cannot compute gradient|Error in gradient for op/.test(text)) throw error;
    }
    variable.dispose();
  }
  return gradients;
}
