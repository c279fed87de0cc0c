import { describe, InvalidArgumentError } from "../errors/index.ts";
import { SparseTensor, Tensor, type TensorLike, type TensorStorage, viewTensor } from "../tensor/index.ts";
import { computesOnHost, isOnDevice, nameOfDevice } from "./device-limits.ts";
import { addElements, copyElements, isSameMemory } from "./elements.ts";
import { denseGradient, type Gradient, type Parameter, storageOf, zerosLike } from "./parameter.ts";
import type { Reducer } from "./reducer.ts";

/** What the passes of one model share. */
export interface PassContext {
  readonly reducer: Reducer;
  readonly indexOf: (parameter: string | number) => number;
  /** Sums of the gradients of passes without synchronisation. */
  readonly accumulated: Map<Parameter, TensorLike>;
  readonly staticGraph: boolean;
  /** Called when a pass has been finished successfully. */
  finished(): Promise<void>;
}

/** A backward pass: takes gradients as they are computed, and averages them over all ranks meanwhile. */
export class BackwardPass {
  readonly #context: PassContext;
  readonly #synchronises: boolean;
  readonly #unused: readonly number[];
  /** What memory each gradient is in. */
  readonly #given = new Map<unknown, Map<number, Parameter>>();
  #phase: "new" | "open" | "finishing" | "finished" = "new";

  /** @internal */
  constructor(context: PassContext, synchronises: boolean, unused: readonly number[]) {
    this.#context = context;
    this.#synchronises = synchronises;
    this.#unused = unused;
  }

  /**
   * Gives the gradient of a parameter. Its exchange begins when the bucket is complete, so give each as soon as it is
   * there. A tensor in the bucket's memory (`gradientBuffer()`), and with `staticGraph` any, must not be changed before
   * {@link finish}.
   *
   * On a device, a gradient may still be computed by what is in the current stream; what is put into that stream afterwards is
   * not waited for.
   *
   * After {@link finish}, `gradient` holds the average. With `gradientAsBucketView` it is copied, and the average is in
   * `gradientBuffer()`; with that as `gradient` nothing is copied.
   *
   * @param parameter Its name or index.
   * @throws InvalidArgumentError for a parameter that does not exist or is ready already (`READY_TWICE`, in a static graph
   *   `GRAPH_CHANGED`), for a gradient of another length, dtype, shape or device, and after {@link finish}
   *   (`PASS_FINISHED`); UnsupportedOperationError for the second use of a parameter on a device, in a static graph.
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
    if (!this.#synchronises) {
      this.#accumulate(target, gradient);
      return;
    }
    // Checked before anything is added to it.
    reducer.requireExpected(index, gradient);
    this.#requireOwnMemory(target, gradient);
    this.#requireSum(target);
    this.#hand(index, target, gradient);
    this.#remember(target, gradient);
  }

  /**
   * Waits until the gradients of all parameters are the averages over all ranks. On a device, they are that for what is put
   * into the stream from now on that is current at the call.
   *
   * @throws DistError for parameters without a gradient (`REDUCTION_NOT_FINISHED`), before anything is waited for: they can
   *   still be given. Or when an exchange has failed, and the group with it.
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
      for (const [parameter, sum] of accumulated) this.#hand(reducer.parameters.indexOf(parameter), parameter, sum);
      accumulated.clear();
      this.#phase = "finishing";
      try {
        await reducer.finalizeBackward();
        await this.#context.finished();
      } catch (error) {
        if ((error as { readonly code?: unknown }).code === "REDUCTION_NOT_FINISHED") this.#phase = "open";
        throw error;
      }
    }
    this.#phase = "finished";
  }

  /**
   * Ends the pass without its result, since `cause` was thrown.
   * @internal
   */
  abandon(cause: unknown): void {
    if (this.#phase === "open" && this.#synchronises) this.#context.reducer.abandonBackward(cause);
    this.#phase = "finished";
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

  /**
   * Without bucket views, the tensor of a gradient gets its average, so no two may be the same memory. In a static graph,
   * those of one parameter are added up.
   */
  #requireOwnMemory(parameter: Parameter, gradient: Gradient): void {
    const { reducer, staticGraph } = this.#context;
    const [memory, offset] = placeOf(gradient);
    const other = this.#given.get(memory)?.get(offset);
    if (other === undefined || parameter.length === 0) return;
    if (other === parameter && staticGraph) {
      throw new InvalidArgumentError(
        `the gradients of two uses of ${parameter.name} are the same tensor: give each its own, or the sum of both once`,
        { argument: "gradient" },
      );
    }
    if (reducer.settings.gradientAsBucketView) return;
    throw new InvalidArgumentError(
      `the gradients of ${other.name} and ${parameter.name} are the same tensor, which can hold only one average`,
      { argument: "gradient" },
    );
  }

  /** Gradients of several uses of one parameter are added up, which only the host can. */
  #requireSum(parameter: Parameter): void {
    if (!this.#context.staticGraph || parameter.grad === undefined || !isOnDevice(parameter)) return;
    const remedy =
      "gradients of several uses cannot be added up; add them where they are computed, and give the sum once";
    throw computesOnHost("staticGraph: true", parameter, remedy);
  }

  #remember(parameter: Parameter, gradient: Gradient): void {
    const [memory, offset] = placeOf(gradient);
    const places = this.#given.get(memory) ?? new Map<number, Parameter>();
    this.#given.set(memory, places.set(offset, parameter));
  }

  #hand(index: number, parameter: Parameter, gradient: Gradient): void {
    const { reducer, accumulated, staticGraph } = this.#context;
    const before = parameter.grad;
    const sum = accumulated.get(parameter);
    parameter.grad = gradient;
    if (staticGraph && before !== undefined) parameter.grad = this.#added(parameter, before, gradient);
    else if (sum !== undefined && sum !== gradient) parameter.grad = this.#added(parameter, gradient, sum);
    try {
      reducer.autogradHook(index);
    } catch (error) {
      parameter.grad = before;
      throw error;
    }
    accumulated.delete(parameter);
  }

  /** The sum of two gradients: in the first one, which is to hold the average anyway, or with bucket views in a copy. */
  #added(parameter: Parameter, gradient: Gradient, term: Gradient): TensorLike {
    const [own, other] = [denseGradient(parameter, gradient).data, denseGradient(parameter, term).data];
    if (isSameMemory(own, other)) return gradient as TensorLike;
    const keeps = this.#context.reducer.settings.gradientAsBucketView;
    const sum = keeps ? copyOf(parameter, own) : (gradient as TensorLike);
    addElements(storageOf(sum, parameter.name), other, parameter.dtype);
    return sum;
  }

  /** Adds a copy of a gradient to what will be exchanged in a later pass. */
  #accumulate(parameter: Parameter, gradient: Gradient): void {
    const { accumulated } = this.#context;
    const sum = accumulated.get(parameter);
    const { data } = denseGradient(parameter, gradient);
    if (sum === undefined) accumulated.set(parameter, copyOf(parameter, data));
    else addElements(storageOf(sum, parameter.name), data, parameter.dtype);
  }
}

function copyOf(parameter: Parameter, data: TensorStorage): TensorLike {
  const copy = zerosLike(parameter);
  const { dtype, name } = parameter;
  copyElements(storageOf(copy, name), dtype, data, dtype);
  return copy;
}

/** Where a gradient begins: its buffer and the offset in it, its device and address, or the object itself if it is sparse. */
function placeOf(gradient: Gradient): readonly [memory: unknown, offset: number] {
  const data = !ArrayBuffer.isView(gradient) && gradient instanceof Tensor ? gradient.data : gradient;
  if (ArrayBuffer.isView(data)) return [data.buffer, data.byteOffset];
  if (gradient instanceof SparseTensor) return [gradient, 0];
  const { device, ptr } = viewTensor(gradient);
  return [nameOfDevice(device), ptr];
}
