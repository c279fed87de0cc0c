import * as dist from "bun-c10d";

/** Pixels, activations or errors of one image. */
type Values = Float32Array | Float64Array;

export interface NamedParameter {
  readonly name: string;
  readonly data: Float32Array;
}

/** Memory for gradients, by the name of the parameter. */
export interface GradientBuffers {
  gradientBuffer(name: string): unknown;
}

/** Takes each gradient when it is complete. */
export interface Gradients {
  ready(name: string, gradient: Float32Array): void;
}

/**
 * A fully connected layer. Weights have a row per input: inputs of 0, as most pixels are, cost nothing, and the others use
 * contiguous rows, forward and backward. Only parameters and gradients are rounded to float32.
 */
export class Dense {
  readonly inputs: number;
  readonly weight: NamedParameter;
  readonly bias: NamedParameter;

  /** Its parameters are `w` and `b` with the layer's number. */
  constructor(number: number, inputs: number, outputs: number) {
    this.inputs = inputs;
    this.weight = { name: `w${number}`, data: dist.empty("float32", inputs * outputs) };
    this.bias = { name: `b${number}`, data: dist.empty("float32", outputs) };
  }

  /** The outputs for one image. */
  forward(inputs: Values): Float64Array {
    const weight = this.weight.data;
    const outputs = new Float64Array(this.bias.data);
    for (let i = 0; i < inputs.length; i++) {
      const value = inputs[i] as number;
      if (value === 0) continue;
      const row = i * outputs.length;
      for (let j = 0; j < outputs.length; j++) {
        outputs[j] = (outputs[j] as number) + value * (weight[row + j] as number);
      }
    }
    return outputs;
  }

  /** Gives the gradients of bias and weight over a batch, from the derivatives of the loss by the outputs of each image. */
  backward(
    images: readonly { readonly inputs: Values; readonly errors: Float64Array }[],
    buffers: GradientBuffers,
    gradients: Gradients,
  ): void {
    const bias = (buffers.gradientBuffer(this.bias.name) as Float32Array).fill(0);
    for (const { errors } of images) {
      for (let j = 0; j < bias.length; j++) bias[j] = (bias[j] as number) + (errors[j] as number);
    }
    gradients.ready(this.bias.name, bias);

    const weight = (buffers.gradientBuffer(this.weight.name) as Float32Array).fill(0);
    for (const { inputs, errors } of images) addProducts(weight, inputs, errors);
    gradients.ready(this.weight.name, weight);
  }

  /** The derivatives of an image's loss by the inputs, from those by the outputs. */
  inputErrors(errors: Float64Array): Float64Array {
    const weight = this.weight.data;
    const result = new Float64Array(this.inputs);
    for (let i = 0; i < result.length; i++) {
      const row = i * errors.length;
      let error = 0;
      for (let j = 0; j < errors.length; j++) error += (errors[j] as number) * (weight[row + j] as number);
      result[i] = error;
    }
    return result;
  }
}

/** Adds one image's part of the gradient of a weight. */
function addProducts(gradient: Float32Array, inputs: Values, errors: Float64Array): void {
  for (let i = 0; i < inputs.length; i++) {
    const value = inputs[i] as number;
    if (value === 0) continue;
    const row = i * errors.length;
    for (let j = 0; j < errors.length; j++) {
      gradient[row + j] = (gradient[row + j] as number) + value * (errors[j] as number);
    }
  }
}
