import { type Digits, imageOf } from "./dataset.ts";
import { Dense, type GradientBuffers, type Gradients, type NamedParameter } from "./dense.ts";
import { Random } from "./random.ts";

/** Sums over the images of a batch. */
export interface BatchResult {
  /** Sum of the cross-entropies, in nats. */
  readonly loss: number;
  /** Number of images whose likeliest class is correct. */
  readonly correct: number;
}

/** inputs → tanh hidden layer → softmax, with the parameters w1 [inputs][hidden], b1, w2 [hidden][outputs], b2. */
export class Mlp {
  readonly parameters: readonly NamedParameter[];
  readonly #first: Dense;
  readonly #last: Dense;

  /** Normal weights with variance 2 ÷ fan-in, zero biases. */
  constructor(inputs: number, hidden: number, outputs: number, seed: number) {
    const random = new Random(seed);
    this.#first = new Dense(1, inputs, hidden);
    this.#last = new Dense(2, hidden, outputs);
    for (const { weight, inputs } of [this.#first, this.#last]) {
      for (const i of weight.data.keys()) weight.data[i] = random.normal() * Math.sqrt(2 / inputs);
    }
    this.parameters = [this.#first.weight, this.#first.bias, this.#last.weight, this.#last.bias];
  }

  /** A copy of all parameters, one after the other. */
  weights(): Float32Array {
    return Float32Array.from(this.parameters.flatMap(({ data }) => [...data]));
  }

  /** Loss and hits of the images `indices`. */
  evaluate(digits: Digits, indices: Uint32Array): BatchResult {
    let loss = 0;
    let correct = 0;
    for (const index of indices) {
      const image = this.#forward(digits, index);
      loss += image.loss;
      correct += image.hit;
    }
    return { loss, correct };
  }

  /**
   * Loss and hits of the images `indices`; `gradients` gets `scale` × those of the sum of their losses, layer by layer, the
   * last one first. With `scale` = world size ÷ length of the global batch, the average over the ranks is the gradient of
   * the global batch's mean loss, even if the ranks' shards differ in length.
   */
  backward(
    digits: Digits,
    indices: Uint32Array,
    scale: number,
    buffers: GradientBuffers,
    gradients: Gradients,
  ): BatchResult {
    const images = Array.from(indices, (index) => this.#forward(digits, index));
    const last = images.map(({ label, hidden, probabilities }) => {
      // Derivative of softmax and cross-entropy together: probabilities - one-hot label.
      const errors = probabilities.map((probability, k) => (probability - (k === label ? 1 : 0)) * scale);
      return { inputs: hidden, errors };
    });
    this.#last.backward(last, buffers, gradients);
    const first = images.map(({ pixels, hidden }, i) => {
      const errors = this.#last.inputErrors(last[i]?.errors ?? hidden);
      return { inputs: pixels, errors: errors.map((error, j) => error * tanhSlope(hidden[j] as number)) };
    });
    this.#first.backward(first, buffers, gradients);
    return {
      loss: images.reduce((sum, { loss }) => sum + loss, 0),
      correct: images.reduce((sum, { hit }) => sum + hit, 0),
    };
  }

  #forward(digits: Digits, index: number) {
    const label = digits.labels[index] as number;
    const pixels = imageOf(digits, index);
    const hidden = this.#first.forward(pixels);
    for (let j = 0; j < hidden.length; j++) hidden[j] = Math.tanh(hidden[j] as number);
    const probabilities = this.#last.forward(hidden);
    const likeliest = softmax(probabilities);
    const loss = -Math.log(Math.max(probabilities[label] as number, Number.MIN_VALUE));
    return { label, pixels, hidden, probabilities, loss, hit: Number(likeliest === label) };
  }
}

function tanhSlope(activation: number): number {
  return 1 - activation * activation;
}

/** In place; returns the likeliest class. */
function softmax(values: Float64Array): number {
  const peak = Math.max(...values);
  const likeliest = values.indexOf(peak);
  for (const [k, value] of values.entries()) values[k] = Math.exp(value - peak);
  const sum = values.reduce((total, value) => total + value, 0);
  for (const [k, value] of values.entries()) values[k] = value / sum;
  return likeliest;
}
