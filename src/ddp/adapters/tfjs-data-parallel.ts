import { describe, InvalidArgumentError } from "../../errors/index.ts";
import type { DataParallelOptions } from "../ddp-options.ts";
import { DistributedDataParallel } from "../distributed-data-parallel.ts";
import type { JoinOptions } from "../join.ts";
import type {
  GradientsOf,
  LossOf,
  TensorFlow,
  TensorFlowOptimizer,
  TensorFlowTensor,
  TensorFlowVariable,
} from "./tfjs-interface.ts";
import { peek, requireReadableBackend, tensorOf } from "./tfjs-memory.ts";
import { modelOf, type TensorFlowParameters, variablesOf } from "./tfjs-variables.ts";

/** Options of {@link dataParallel}: those of `DistributedDataParallel`, of which two mean something more. */
export interface TensorFlowOptions extends DataParallelOptions {
  /**
   * Whether variables that are not trainable are copied from rank 0 in every iteration, as moving averages of batch
   * normalization have to be. With `false` they are copied once, at construction, which is enough for frozen layers;
   * `DistributedDataParallel` itself does not copy buffers then. Default is `true`.
   */
  readonly broadcastBuffers?: boolean;
  /**
   * Whether gradients are parts of the buckets, valid until the next iteration. Saves a copy of them on backend `cpu`;
   * `wasm` has to copy them into its heap. Default is `false`.
   */
  readonly gradientAsBucketView?: boolean;
}

/**
 * Trains a model of TensorFlow.js on many ranks: compares its variables with those of the other ranks, and gives all of
 * them the values of rank 0.
 *
 * ```ts
 * const ddp = await dataParallel(tf, model);
 * const optimizer: tf.Optimizer = tf.train.adam(0.001);
 * for (const { images, labels } of batches) {
 *   const { value, grads } = await ddp.variableGrads(() => lossOf(model.apply(images), labels));
 *   optimizer.applyGradients(grads);
 *   tf.dispose([value, grads]);
 * }
 * ```
 *
 * @param tf The namespace of `@tensorflow/tfjs`, with backend `cpu` or `wasm`.
 * @param model A `tf.LayersModel`, or a list of `tf.Variable`s and weights of layers, in the same order on all ranks.
 *   Names are compared, too: variables get theirs from a counter unless they are named.
 * @throws InvalidArgumentError for another backend, for trainable variables that are not float32 and others that are not
 *   float32, int32 or bool, for two of one name, and on ranks whose models differ (`PARAMETERS_DIFFER`).
 */
export async function dataParallel<TF extends TensorFlow>(
  tf: TF,
  model: TensorFlowParameters,
  options: TensorFlowOptions = {},
): Promise<TensorFlowDataParallel<TF>> {
  requireReadableBackend(tf);
  const variables = variablesOf(model);
  const ddp = await DistributedDataParallel.create(modelOf(tf, variables, options.broadcastBuffers ?? true), {
    ...options,
    // The arrays that TensorFlow.js gives may be shared, and must not be written to.
    gradientAsBucketView: true,
  });
  return new TensorFlowDataParallel(tf, ddp, variables.trained, options.gradientAsBucketView ?? false);
}

/**
 * A model of TensorFlow.js that is trained on many ranks. Made by {@link dataParallel}.
 *
 * TensorFlow.js gives all gradients at the end of its backward pass, so their exchange does not overlap with it. What is
 * copied:
 *
 * - `cpu`: gradients once, from the backend's own arrays into the buckets; averages once, into new tensors, or not at all
 *   with `gradientAsBucketView`.
 * - `wasm`: gradients once, from the heap into the buckets; averages once, into the heap. The heap moves when it grows, so
 *   no op uses it.
 * - others that can be read: as `cpu`, and what `dataSync()` copies.
 */
export class TensorFlowDataParallel<TF extends TensorFlow> {
  /** What exchanges the gradients: for comm hooks, figures and `Join`. */
  readonly ddp: DistributedDataParallel;
  /** The trained variables, in the order of the model. */
  readonly variables: readonly TensorFlowVariable[];
  readonly #tf: TF;
  readonly #givesViews: boolean;

  /** @internal */
  constructor(
    tf: TF,
    ddp: DistributedDataParallel,
    variables: readonly TensorFlowVariable[],
    gradientAsBucketView: boolean,
  ) {
    this.#tf = tf;
    this.ddp = ddp;
    this.variables = variables;
    this.#givesViews = gradientAsBucketView;
  }

  /**
   * One iteration: computes the gradients of `f`, and averages them over all ranks. All ranks must call it equally often.
   *
   * @param f Computes the loss of this rank's part of the batch, a scalar: the mean, if the ranks' parts have one size.
   * @returns The loss of this rank, and by name the average gradients: of all trained variables, or with
   *   `findUnusedParameters` of those that a rank has used. Inside {@link noSync} there are none. To be disposed of.
   * @throws DistError if a variable has no gradient, or an exchange fails.
   *
   * TensorFlow.js: `tf.variableGrads`.
   */
  async variableGrads(f: LossOf<TF>): Promise<GradientsOf<TF>> {
    const tf = this.#tf;
    requireReadableBackend(tf);
    const { ddp } = this;
    const synchronises = ddp.requireBackwardGradSync;
    await ddp.forward();
    const { value, grads } = tf.variableGrads(f, [...this.variables] as never);
    try {
      const finished = this.#give(grads);
      await finished;
      return { value, grads: synchronises ? this.#averages() : {} } as GradientsOf<TF>;
    } catch (error) {
      value.dispose();
      throw error;
    }
  }

  /**
   * One iteration: lets `optimizer` step by the average gradients of `f`.
   *
   * @param returnCost Whether to return the loss of this rank, to be disposed of. Default is `false`.
   *
   * TensorFlow.js: `optimizer.minimize`, without a list of variables. Inside {@link noSync} the optimizer does not step.
   */
  async minimize(
    optimizer: TensorFlowOptimizer,
    f: LossOf<TF>,
    returnCost = false,
  ): Promise<GradientsOf<TF>["value"] | null> {
    if (typeof optimizer?.applyGradients !== "function") {
      throw new InvalidArgumentError(`optimizer must be a tf.Optimizer, got ${describe(optimizer)}`, {
        argument: "optimizer",
      });
    }
    const { value, grads } = await this.variableGrads(f);
    const gradients = Object.values<TensorFlowTensor>(grads);
    if (gradients.length > 0) optimizer.applyGradients(grads as never);
    for (const gradient of gradients) gradient.dispose();
    if (returnCost) return value;
    value.dispose();
    return null;
  }

  /**
   * Iterations in `body` are not synchronised: their gradients are added up, and become part of those of the next
   * iteration outside. c10d: `no_sync`.
   */
  noSync<T>(body: () => T | PromiseLike<T>): Promise<T> {
    return this.ddp.noSync(body);
  }

  /** Runs iterations whose number may differ between ranks. c10d: `join`. */
  join<T>(body: () => T | PromiseLike<T>, options: JoinOptions = {}): Promise<T> {
    return this.ddp.join(body, options);
  }

  /**
   * Gives the gradients of this rank to the buckets, and disposes of their tensors. What it returns is the end of the
   * exchange; all gradients have been read when it returns.
   */
  #give(grads: Readonly<Record<string, TensorFlowTensor>>): Promise<void> {
    try {
      const pass = this.ddp.backward();
      // Buckets begin with the last layers.
      for (const { name } of this.variables.toReversed()) {
        const gradient = grads[name];
        if (gradient === undefined) continue;
        // Two gradients may be one array.
        pass.ready(name, peek(this.#tf, gradient).subarray());
      }
      return pass.finish();
    } finally {
      for (const gradient of Object.values(grads)) gradient.dispose();
    }
  }

  #averages(): Record<string, TensorFlowTensor> {
    const averages: Record<string, TensorFlowTensor> = {};
    for (const variable of this.variables) {
      const average = this.ddp.gradient(variable.name) as Float32Array | undefined;
      if (average === undefined) continue;
      averages[variable.name] = tensorOf(this.#tf, average, variable, this.#givesViews);
    }
    return averages;
  }
}
