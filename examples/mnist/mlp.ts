import * as dist from "bun-c10d";
import type { Digits } from "./dataset.ts";
import { Random } from "./random.ts";

export interface MlpShape {
  readonly inputs: number;
  readonly hidden: number;
  readonly outputs: number;
}

/** Sums over the images of a batch. */
export interface BatchResult {
  /** Sum of the cross-entropies, in nats. */
  readonly loss: number;
  /** Number of images whose likeliest class is correct. */
  readonly correct: number;
}

/**
 * inputs → tanh hidden layer → softmax. All parameters are one flat array, and so are the gradients, so that one
 * all-reduce is enough. It holds, in this order, W1 [inputs][hidden], b1 [hidden], W2 [hidden][outputs], b2 [outputs].
 *
 * Most inputs are 0, so W1 has a row per input: zeros cost nothing, the others use contiguous rows, forward and
 * backward. Activations are doubles; only parameters and gradients are rounded to float32.
 */
export class Mlp {
  readonly shape: MlpShape;
  readonly parameterCount: number;

  readonly #b1: number;
  readonly #w2: number;
  readonly #b2: number;
  readonly #hidden: Float64Array;
  readonly #hiddenError: Float64Array;
  readonly #probabilities: Float64Array;
  /** The non-zero inputs of the current image: where their rows begin in W1, and their values. */
  readonly #rows: Int32Array;
  readonly #ink: Float64Array;

  constructor(shape: MlpShape) {
    const { inputs, hidden, outputs } = shape;
    this.shape = shape;
    this.#b1 = inputs * hidden;
    this.#w2 = this.#b1 + hidden;
    this.#b2 = this.#w2 + hidden * outputs;
    this.parameterCount = this.#b2 + outputs;
    this.#hidden = new Float64Array(hidden);
    this.#hiddenError = new Float64Array(hidden);
    this.#probabilities = new Float64Array(outputs);
    this.#rows = new Int32Array(inputs);
    this.#ink = new Float64Array(inputs);
  }

  /** Normal weights with variance 2 ÷ fan-in, zero biases. */
  initialParameters(seed: number): Float32Array {
    const { inputs, hidden } = this.shape;
    const random = new Random(seed);
    const parameters = dist.empty("float32", this.parameterCount);
    for (let i = 0; i < this.#b1; i++) parameters[i] = random.normal() * Math.sqrt(2 / inputs);
    for (let i = this.#w2; i < this.#b2; i++) parameters[i] = random.normal() * Math.sqrt(2 / hidden);
    return parameters;
  }

  /** Loss and hits of the images `indices`, without gradients. */
  evaluate(parameters: Float32Array, digits: Digits, indices: Uint32Array): BatchResult {
    let loss = 0;
    let correct = 0;
    for (const index of indices) {
      const label = digits.labels[index] as number;
      if (this.#forward(parameters, this.#readImage(digits.pixels, index)) === label) correct++;
      loss += this.#crossEntropy(label);
    }
    return { loss, correct };
  }

  /**
   * Loss and hits of the images `indices`; `gradients` becomes `scale` × the gradient of the sum of their losses.
   * With `scale` = world size ÷ length of the global batch, the average over the ranks is the gradient of the global
   * batch's mean loss, even if the ranks' shards differ in length.
   */
  gradient(
    parameters: Float32Array,
    gradients: Float32Array,
    digits: Digits,
    indices: Uint32Array,
    scale: number,
  ): BatchResult {
    gradients.fill(0);
    let loss = 0;
    let correct = 0;
    for (const index of indices) {
      const label = digits.labels[index] as number;
      const inkCount = this.#readImage(digits.pixels, index);
      if (this.#forward(parameters, inkCount) === label) correct++;
      loss += this.#crossEntropy(label);
      this.#backward(parameters, gradients, inkCount, label, scale);
    }
    return { loss, correct };
  }

  #crossEntropy(label: number): number {
    return -Math.log(Math.max(this.#probabilities[label] as number, Number.MIN_VALUE));
  }

  #readImage(pixels: Float32Array, index: number): number {
    const { inputs, hidden } = this.shape;
    const rows = this.#rows;
    const ink = this.#ink;
    const start = index * inputs;
    let count = 0;
    for (let i = 0; i < inputs; i++) {
      const value = pixels[start + i] as number;
      if (value !== 0) {
        rows[count] = i * hidden;
        ink[count++] = value;
      }
    }
    return count;
  }

  /** Fills hidden activations and probabilities; returns the likeliest class. */
  #forward(parameters: Float32Array, inkCount: number): number {
    const { hidden, outputs } = this.shape;
    const activations = this.#hidden;
    const probabilities = this.#probabilities;
    for (let j = 0; j < hidden; j++) activations[j] = parameters[this.#b1 + j] as number;
    this.#addInkRows(parameters, inkCount);

    for (let k = 0; k < outputs; k++) probabilities[k] = parameters[this.#b2 + k] as number;
    for (let j = 0; j < hidden; j++) {
      const activation = Math.tanh(activations[j] as number);
      activations[j] = activation;
      const row = this.#w2 + j * outputs;
      for (let k = 0; k < outputs; k++) {
        probabilities[k] = (probabilities[k] as number) + activation * (parameters[row + k] as number);
      }
    }
    return this.#softmax();
  }

  // Four rows at a time: an activation is loaded and stored once for four multiply-adds.
  #addInkRows(parameters: Float32Array, inkCount: number): void {
    const hidden = this.shape.hidden;
    const activations = this.#hidden;
    const rows = this.#rows;
    const ink = this.#ink;
    let i = 0;
    for (; i + 4 <= inkCount; i += 4) {
      const row0 = rows[i] as number;
      const row1 = rows[i + 1] as number;
      const row2 = rows[i + 2] as number;
      const row3 = rows[i + 3] as number;
      const ink0 = ink[i] as number;
      const ink1 = ink[i + 1] as number;
      const ink2 = ink[i + 2] as number;
      const ink3 = ink[i + 3] as number;
      for (let j = 0; j < hidden; j++) {
        activations[j] =
          (activations[j] as number) +
          ink0 * (parameters[row0 + j] as number) +
          ink1 * (parameters[row1 + j] as number) +
          ink2 * (parameters[row2 + j] as number) +
          ink3 * (parameters[row3 + j] as number);
      }
    }
    for (; i < inkCount; i++) {
      const row = rows[i] as number;
      const value = ink[i] as number;
      for (let j = 0; j < hidden; j++) {
        activations[j] = (activations[j] as number) + value * (parameters[row + j] as number);
      }
    }
  }

  #softmax(): number {
    const probabilities = this.#probabilities;
    let best = 0;
    for (let k = 1; k < probabilities.length; k++) {
      if ((probabilities[k] as number) > (probabilities[best] as number)) best = k;
    }
    const peak = probabilities[best] as number;
    let sum = 0;
    for (let k = 0; k < probabilities.length; k++) {
      const power = Math.exp((probabilities[k] as number) - peak);
      probabilities[k] = power;
      sum += power;
    }
    for (let k = 0; k < probabilities.length; k++) probabilities[k] = (probabilities[k] as number) / sum;
    return best;
  }

  #backward(parameters: Float32Array, gradients: Float32Array, inkCount: number, label: number, scale: number): void {
    const { hidden, outputs } = this.shape;
    const activations = this.#hidden;
    const hiddenError = this.#hiddenError;
    // Derivative of softmax and cross-entropy together: probabilities - one-hot label.
    const outputError = this.#probabilities;
    outputError[label] = (outputError[label] as number) - 1;
    for (let k = 0; k < outputs; k++) {
      const error = (outputError[k] as number) * scale;
      outputError[k] = error;
      gradients[this.#b2 + k] = (gradients[this.#b2 + k] as number) + error;
    }

    for (let j = 0; j < hidden; j++) {
      const activation = activations[j] as number;
      const row = this.#w2 + j * outputs;
      let error = 0;
      for (let k = 0; k < outputs; k++) {
        const outError = outputError[k] as number;
        error += outError * (parameters[row + k] as number);
        gradients[row + k] = (gradients[row + k] as number) + outError * activation;
      }
      error *= 1 - activation * activation;
      hiddenError[j] = error;
      gradients[this.#b1 + j] = (gradients[this.#b1 + j] as number) + error;
    }

    const rows = this.#rows;
    const ink = this.#ink;
    for (let i = 0; i < inkCount; i++) {
      const row = rows[i] as number;
      const value = ink[i] as number;
      for (let j = 0; j < hidden; j++) {
        gradients[row + j] = (gradients[row + j] as number) + value * (hiddenError[j] as number);
      }
    }
  }
}
