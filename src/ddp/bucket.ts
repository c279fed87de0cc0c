import { describe, InvalidArgumentError } from "../errors/index.ts";
import {
  type DType,
  dtypeOfArray,
  empty,
  SparseTensor,
  Tensor,
  type TensorLike,
  type TensorStorage,
  viewTensor,
} from "../tensor/index.ts";
import { copyElements, divideElements, isSameMemory, partOfStorage, scaleElements } from "./elements.ts";
import { denseGradient, type Gradient, type Parameter, storageOf, zerosLike } from "./parameter.ts";
import { emptySparse, scaledSparse } from "./sparse-gradient.ts";

/** Parameters of a {@link Bucket}. */
export interface BucketInit {
  readonly index: number;
  /** Numbers of the parameters in the reducer. */
  readonly members: readonly number[];
  readonly parameters: readonly Parameter[];
  /** Whether its only parameter has sparse gradients. */
  readonly sparse: boolean;
  /** dtype in which gradients are exchanged, if not that of the parameters. */
  readonly dtype?: DType | undefined;
}

/** Gradients that are exchanged together: one after the other in one flat tensor, or a sparse one alone. */
export class Bucket {
  readonly index: number;
  readonly members: readonly number[];
  readonly parameters: readonly Parameter[];
  readonly sparse: boolean;
  readonly dtype: DType;
  /** Number of parameters whose gradients are not there yet. */
  pending: number;
  /** The exchange of this iteration, once it has begun. */
  exchange: PromiseLike<Gradient> | undefined;
  #buffer: Gradient;
  /** For each parameter, its part of a dense buffer. */
  readonly #views: readonly TensorStorage[];
  /** Parameters whose gradients could not be divided yet: those copied into the buffer, and those computed in it. */
  #undivided: { readonly place: number; readonly inPlace: boolean }[] = [];

  constructor({ index, members, parameters, sparse, dtype }: BucketInit) {
    const [first] = parameters;
    if (first === undefined) {
      throw new InvalidArgumentError("Empty bucket specified.", { argument: "bucketIndices" });
    }
    requireAlike(first, parameters, sparse);
    this.index = index;
    this.members = members;
    this.parameters = parameters;
    this.sparse = sparse;
    this.dtype = dtype ?? first.dtype;
    this.pending = members.length;
    if (sparse) {
      this.#buffer = emptySparse(first);
      this.#views = [];
      return;
    }
    const length = parameters.reduce((sum, each) => sum + each.length, 0);
    const buffer = empty(this.dtype, length);
    const storage = storageOf(buffer, "buffer");
    let start = 0;
    this.#views = parameters.map((each) => {
      const view = partOfStorage(storage, this.dtype, start, each.length);
      start += each.length;
      return view;
    });
    this.#buffer = buffer;
  }

  /** The flat tensor, or the sparse gradient. */
  get buffer(): Gradient {
    return this.#buffer;
  }

  /** Names of its parameters, for messages. */
  get names(): string {
    return this.parameters.map(({ name }) => name).join(", ");
  }

  /** The part of the buffer for a parameter, in the form of its values: a TypedArray where that has the dtype. */
  viewOf(place: number): TensorLike {
    const [view, parameter] = [this.#views[place], this.parameters[place]];
    if (view === undefined || parameter === undefined) {
      throw new InvalidArgumentError(`bucket ${this.index} has no dense gradient ${place}`, { argument: "place" });
    }
    return dtypeOfArray(view) === this.dtype ? view : new Tensor(view, this.dtype, parameter.shape);
  }

  /** Begins an iteration. */
  reset(): void {
    this.pending = this.members.length;
    this.exchange = undefined;
    this.#undivided = [];
  }

  /** @throws InvalidArgumentError unless {@link fill} would take this gradient of a parameter. */
  requireGradient(place: number, grad: Gradient | undefined): void {
    const parameter = this.parameters[place] as Parameter;
    if (this.sparse) sparseOf(parameter, grad);
    else if (grad !== undefined) denseGradient(parameter, grad, this.dtype);
  }

  /**
   * Takes over the gradient of a parameter; one that is `undefined` counts as zeros.
   *
   * @param divisor By how much it is divided; `undefined` if that is not known yet.
   * @throws InvalidArgumentError for a gradient of another dtype, length or layout.
   */
  fill(place: number, divisor: number | undefined): void {
    const parameter = this.parameters[place] as Parameter;
    const { grad } = parameter;
    if (this.sparse) {
      this.#buffer = sparseOf(parameter, grad);
      if (divisor === undefined) this.#undivided.push({ place, inPlace: false });
      else if (divisor !== 1) this.#buffer = scaledSparse(this.#buffer as SparseTensor, divisor);
      return;
    }
    const view = this.#views[place] as TensorStorage;
    if (grad === undefined) {
      clear(view);
      return;
    }
    const { data, dtype } = denseGradient(parameter, grad, this.dtype);
    const inPlace = isSameMemory(data, view);
    if (!inPlace && (divisor === undefined || divisor === 1)) copyElements(view, this.dtype, data, dtype);
    if (divisor === undefined) this.#undivided.push({ place, inPlace });
    else if (divisor !== 1 && inPlace) divideElements(view, this.dtype, divisor);
    // As PyTorch does: multiplied on the way, which is cheaper than a division.
    else if (divisor !== 1) scaleElements(view, this.dtype, data, dtype, 1 / divisor);
  }

  /** Divides what {@link fill} could not. */
  divide(divisor: number): void {
    for (const { place, inPlace } of this.#undivided) {
      if (this.sparse) this.#buffer = scaledSparse(this.#buffer as SparseTensor, divisor);
      else if (inPlace) divideElements(this.#views[place] as TensorStorage, this.dtype, divisor);
      else scaleInPlace(this.#views[place] as TensorStorage, this.dtype, 1 / divisor);
    }
    this.#undivided = [];
  }

  /** Makes the result of the exchange the content of the buffer. */
  receive(result: Gradient): void {
    if (this.sparse) {
      this.#buffer = result;
      return;
    }
    const [own, given] = [storageOf(this.#buffer as TensorLike, "buffer"), viewTensor(result as TensorLike)];
    if (given.data !== undefined && !isSameMemory(own, given.data)) {
      copyElements(own, this.dtype, given.data, given.dtype);
    }
  }

  /** Copies the average of a parameter's gradient out of the buffer, into that gradient if there is one. */
  copyOut(place: number): void {
    const parameter = this.parameters[place] as Parameter;
    if (this.sparse) {
      parameter.grad = this.#buffer;
      return;
    }
    const view = this.#views[place] as TensorStorage;
    const grad = parameter.grad ?? zerosLike(parameter);
    const { data, dtype } = denseGradient(parameter, grad, this.dtype);
    if (!isSameMemory(data, view)) copyElements(data, dtype, view, this.dtype);
    parameter.grad = grad;
  }
}

function scaleInPlace(view: TensorStorage, dtype: DType, factor: number): void {
  scaleElements(view, dtype, view, dtype, factor);
}

function clear(view: TensorStorage): void {
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength).fill(0);
}

function sparseOf(parameter: Parameter, grad: Gradient | undefined): SparseTensor {
  if (grad === undefined) return emptySparse(parameter);
  const { name, dtype, shape } = parameter;
  if (grad instanceof SparseTensor && grad.dtype === dtype && String(grad.shape) === String(shape)) return grad;
  const got =
    grad instanceof SparseTensor ? `one of ${grad.dtype} and shape [${grad.shape.join(", ")}]` : describe(grad);
  throw new InvalidArgumentError(
    `Expected variable to have sparse gradient: parameter ${name} needs a SparseTensor of ${dtype} and shape [${shape.join(", ")}], got ${got}`,
    { argument: "gradient" },
  );
}

function requireAlike(first: Parameter, parameters: readonly Parameter[], sparse: boolean): void {
  const refuse = (reason: string): never => {
    throw new InvalidArgumentError(reason, { argument: "bucketIndices" });
  };
  const named = (other: Parameter, of: (each: Parameter) => string) =>
    `${first.name} is ${of(first)}, ${other.name} is ${of(other)}`;
  if (sparse && parameters.length > 1) {
    const names = parameters.map(({ name }) => name).join(", ");
    refuse(
      `Buckets with more than one variable cannot include variables that expect a sparse gradient: one has ${names}`,
    );
  }
  const device = ({ device: { type, index } }: Parameter) => `on ${type}:${index}`;
  const dtype = (each: Parameter) => `of ${each.dtype}`;
  const elsewhere = parameters.find((each) => device(each) !== device(first));
  if (elsewhere !== undefined) {
    refuse(`All parameters in a bucket must be placed on the same device: ${named(elsewhere, device)}`);
  }
  const other = parameters.find((each) => each.dtype !== first.dtype);
  if (other !== undefined) refuse(`All parameters in a bucket must have the same dtype: ${named(other, dtype)}`);
}
