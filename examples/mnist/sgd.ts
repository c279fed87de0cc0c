/** Stochastic gradient descent with momentum over one flat parameter array, as PyTorch's `SGD` computes it. */
export class Sgd {
  readonly momentum: number;
  readonly #velocity: Float32Array;

  constructor(parameterCount: number, momentum: number) {
    this.momentum = momentum;
    this.#velocity = new Float32Array(parameterCount);
  }

  step(parameters: Float32Array, gradients: Float32Array, learningRate: number): void {
    const velocity = this.#velocity;
    const momentum = this.momentum;
    for (let i = 0; i < velocity.length; i++) {
      const moved = Math.fround(momentum * (velocity[i] as number) + (gradients[i] as number));
      velocity[i] = moved;
      parameters[i] = (parameters[i] as number) - learningRate * moved;
    }
  }
}
