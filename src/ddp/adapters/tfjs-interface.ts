/** Values of a tensor of TensorFlow.js, of dtype float32, int32 or bool. */
export type TensorValues = Float32Array | Int32Array | Uint8Array;

/** What is used of a `tf.Tensor`. */
export interface TensorFlowTensor {
  readonly shape: readonly number[];
  readonly dtype: string;
  dataSync(): ArrayLike<number>;
  dispose(): void;
}

/** What is used of a `tf.Variable`. */
export interface TensorFlowVariable extends TensorFlowTensor {
  readonly name: string;
  readonly trainable: boolean;
  assign(value: TensorFlowTensor): void;
}

/** What is used of a weight of a layer. */
export interface TensorFlowWeight {
  readonly name: string;
  /** Its variable, although typed as a tensor. */
  read(): TensorFlowTensor;
}

/** What is used of a `tf.LayersModel`. */
export interface TensorFlowModel {
  readonly name: string;
  readonly trainableWeights: readonly TensorFlowWeight[];
  readonly nonTrainableWeights: readonly TensorFlowWeight[];
}

/** What is used of the namespace of `@tensorflow/tfjs`, or of `@tensorflow/tfjs-core`. */
export interface TensorFlow {
  getBackend(): string;
  backend(): object;
  tidy(body: () => void): void;
  tensor(values: TensorValues, shape?: number[], dtype?: string): TensorFlowTensor;
  /** `f` computes a scalar, for `variables`; whatever types their parameters have take `never`. */
  variableGrads(f: () => never, variables: never): { value: TensorFlowTensor; grads: Record<string, TensorFlowTensor> };
}

/** The loss that `tf.variableGrads` takes: a function that computes a scalar. */
export type LossOf<TF extends TensorFlow> = Parameters<TF["variableGrads"]>[0];

/** What `tf.variableGrads` returns: the loss, and gradients by the name of their variable. */
export type GradientsOf<TF extends TensorFlow> = ReturnType<TF["variableGrads"]>;

/** What is used of a `tf.Optimizer`. Its classes differ in what they say they take. */
export interface TensorFlowOptimizer {
  applyGradients(gradients: never): void;
}
