import { describe, InvalidArgumentError } from "../errors/index.ts";
import { SparseTensor, type TensorLike, type TensorStorage, viewTensor } from "../tensor/index.ts";
import { addElements, isSameMemory } from "./elements.ts";
import { type Gradient, type Parameter, storageOf } from "./parameter.ts";
import type { Reducer } from "./reducer.ts";

/** What the passes of one model share. */
export interface PassContext {
  readonly reducer: Reducer;
  readonly indexOf: (parameter: string | number) => number;
  /** Sums of the gradients of passes without synchronisation. */
  readonly accumulated: Map<Parameter, TensorStorage>;
  readonly staticGraph: boolean;
}

/** A backward pass: takes gradients as they are computed, and averages them over all ranks meanwhile. */
export class BackwardPass {
  readonly #context: PassContext;
  readonly #synchronises: boolean;
  readonly #unused: readonly number[];
  readonly #given = new Map<Gradient, Parameter>();
  #phase: "new" | "open" | "finishing" | "finished" = "new";

  /** @internal */
  constructor(context: PassContext, synchronises: boolean, unused: readonly number[]) {
    this.#context = context;
    this.#synchronises = synchronises;
    this.#unused = unused;
  }

  /**
   * Gives the gradient of a parameter. Its exchange begins when the bucket is complete, so give each as soon as it is
   * there. Must not be changed before {@link finish}, if it is the bucket's memory (`gradientBuffer()`).
   *
   * After {@link finish}, `gradient` holds the average. With `gradientAsBucketView` it is copied, and the average is in
   * `gradientBuffer()`; with that as `gradient` nothing is copied.
   *
   * @param parameter Its name or index.
   * @throws InvalidArgumentError for a parameter that does not exist or is ready already, and for a gradient of another
   *   length or dtype.
   */
  ready(parameter: string | number, gradient: Gradient): void {
    const { reducer, indexOf } = this.#context;
    if (this.#phase === "finishing" || this.#phase === "finished") {
      throw new InvalidArgumentError(
        `the gradient of ${String(parameter)} came after finish(): every iteration needs a backward pass of its own`,
        { code: "PASS_FINISHED", argument: "gradient" },
      );
    }
    this.#begin();
    const index = indexOf(parameter);
    const target = reducer.parameters[index] as Parameter;
    if (typeof gradient !== "object" || gradient === null) {
      throw new InvalidArgumentError(
        `the gradient of ${target.name} must be a tensor of ${target.length} elements of ${target.dtype}, got ${describe(gradient)}`,
        { argument: "gradient" },
      );
    }
    const other = this.#given.get(gradient);
    if (other !== undefined && other !== target) {
      throw new InvalidArgumentError(
        `the gradients of ${other.name} and ${target.name} are the same tensor, which can hold only one average`,
        { argument: "gradient" },
      );
    }
    this.#given.set(gradient, target);
    if (!this.#synchronises) this.#accumulate(target, gradient);
    else this.#hand(index, target, gradient);
  }

  /**
   * Waits until the gradients of all parameters are the averages over all ranks.
   *
   * @throws DistError for parameters without a gradient, before anything is waited for; or when the exchange has failed.
   */
  async finish(): Promise<void> {
    if (this.#phase === "finishing" || this.#phase === "finished") {
      throw new InvalidArgumentError("finish() was called before: every iteration needs a backward pass of its own", {
        code: "PASS_FINISHED",
      });
    }
    this.#begin();
    if (this.#synchronises) {
      const { reducer, accumulated } = this.#context;
      // What earlier passes have accumulated for parameters that this one does not use.
      for (const [parameter, sum] of accumulated) {
        if (!this.#usesStaticCount) this.#hand(reducer.parameters.indexOf(parameter), parameter, sum);
      }
      accumulated.clear();
      this.#phase = "finishing";
      try {
        await reducer.finalizeBackward();
      } catch (error) {
        if ((error as { readonly code?: unknown }).code === "REDUCTION_NOT_FINISHED") this.#phase = "open";
        throw error;
      }
    }
    this.#phase = "finished";
  }

  get #usesStaticCount(): boolean {
    return this.#context.staticGraph;
  }

  #begin(): void {
    if (this.#phase !== "new") return;
    const { reducer, accumulated } = this.#context;
    if (this.#synchronises) {
      reducer.prepareForBackward(
        this.#unused.filter((index) => !accumulated.has(reducer.parameters[index] as Parameter)),
      );
      for (const parameter of reducer.parameters) parameter.grad = undefined;
    }
    this.#phase = "open";
  }

  #hand(index: number, parameter: Parameter, gradient: Gradient): void {
    const { reducer, accumulated } = this.#context;
    const before = parameter.grad;
    const sum = accumulated.get(parameter);
    if (before !== undefined && this.#context.staticGraph) parameter.grad = added(parameter, before, gradient);
    else parameter.grad = sum === undefined || sum === gradient ? gradient : added(parameter, gradient, sum);
    accumulated.delete(parameter);
    try {
      reducer.autogradHook(index);
    } catch (error) {
      parameter.grad = before;
      throw error;
    }
  }

  /** Adds a copy of a gradient to what will be exchanged in a later pass. */
  #accumulate(parameter: Parameter, gradient: Gradient): void {
    const { accumulated } = this.#context;
    if (!ArrayBuffer.isView(gradient) && gradient instanceof SparseTensor) {
      throw new InvalidArgumentError(`${parameter.name}: sparse gradients cannot be accumulated in noSync()`, {
        argument: "gradient",
      });
    }
    const { data, dtype, length } = viewTensor(gradient, `gradient of ${parameter.name}`);
    if (data === undefined || dtype !== parameter.dtype || length !== parameter.length) {
      throw new InvalidArgumentError(
        `Expected a dense gradient of ${parameter.length} elements of ${parameter.dtype} for parameter ${parameter.name}, got ${length} of ${dtype}`,
        { argument: "gradient" },
      );
    }
    const sum = accumulated.get(parameter);
    if (sum === undefined) accumulated.set(parameter, data.slice());
    else addElements(sum, data, dtype);
  }
}

/** Adds to a gradient in place. */
function added(parameter: Parameter, gradient: Gradient, term: Gradient): Gradient {
  if (gradient instanceof SparseTensor || term instanceof SparseTensor) {
    throw new InvalidArgumentError(`${parameter.name}: sparse gradients cannot be added up`, { argument: "gradient" });
  }
  const sum = storageOf(gradient, `gradient of ${parameter.name}`);
  const other = storageOf(term as TensorLike, `gradient of ${parameter.name}`);
  if (!isSameMemory(sum, other)) addElements(sum, other, parameter.dtype);
  return gradient;
}
