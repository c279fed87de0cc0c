import type { NamedParameter } from "./dense.ts";

/** Stochastic gradient descent with momentum, as PyTorch's `SGD` computes it. */
export class Sgd {
  readonly #momentum: number;
  readonly #moving: readonly (NamedParameter & { readonly velocity: Float32Array })[];

  constructor(parameters: readonly NamedParameter[], momentum: number) {
    this.#momentum = momentum;
    this.#moving = parameters.map((each) => ({ ...each, velocity: new Float32Array(each.data.length) }));
  }

  step(gradientOf: (name: string) => Float32Array, learningRate: number): void {
    for (const { name, data, velocity } of this.#moving) {
      const gradient = gradientOf(name);
      for (let i = 0; i < velocity.length; i++) {
        const moved = Math.fround(this.#momentum * (velocity[i] as number) + (gradient[i] as number));
        velocity[i] = moved;
        data[i] = (data[i] as number) - learningRate * moved;
      }
    }
  }
}
