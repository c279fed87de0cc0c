import { describe, InvalidArgumentError } from "../errors/index.ts";
import { type Device, type DType, SparseTensor, type TensorLike } from "../tensor/index.ts";
import type { BucketMemory } from "./memory/bucket-memory.ts";
import type { CopyStream, CopyStreams } from "./memory/copy-stream.ts";
import { CudaBucketMemory } from "./memory/cuda-bucket-memory.ts";
import { HostBucketMemory } from "./memory/host-bucket-memory.ts";
import type { Gradient, Parameter } from "./parameter.ts";
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
  /** Streams for copies on devices. */
  readonly streams: CopyStreams;
}

/** Gradients that are exchanged together: one after the other in one flat tensor, or a sparse one alone. */
export class Bucket {
  readonly index: number;
  readonly members: readonly number[];
  readonly parameters: readonly Parameter[];
  readonly sparse: boolean;
  readonly dtype: DType;
  readonly device: Device;
  /** On a device, the stream in which its gradients are there. */
  readonly stream: CopyStream | undefined;
  /** Number of parameters whose gradients are not there yet. */
  pending: number;
  /** The exchange of this iteration, once it has begun. */
  exchange: PromiseLike<Gradient> | undefined;
  /** Where dense gradients are. */
  readonly #memory: BucketMemory | undefined;
  /** The sparse gradient, if it has that. */
  #sparse: SparseTensor | undefined;
  /** Parameters whose gradients could not be divided yet: those copied into the buffer, and those computed in it. */
  #undivided: { readonly place: number; readonly inPlace: boolean }[] = [];

  constructor({ index, members, parameters, sparse, dtype, streams }: BucketInit) {
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
    this.device = first.device;
    this.stream = streams.of(first.device);
    this.pending = members.length;
    if (sparse) this.#sparse = emptySparse(first);
    else if (this.stream === undefined) this.#memory = new HostBucketMemory({ parameters, dtype: this.dtype });
    else this.#memory = new CudaBucketMemory({ parameters, dtype: this.dtype, stream: this.stream });
  }

  /** The flat tensor, or the sparse gradient. */
  get buffer(): Gradient {
    return this.#memory?.buffer ?? (this.#sparse as SparseTensor);
  }

  /** Names of its parameters, for messages. */
  get names(): string {
    return this.parameters.map(({ name }) => name).join(", ");
  }

  /** The part of the buffer for a parameter, in the form of its values. */
  viewOf(place: number): TensorLike {
    if (this.#memory === undefined || this.parameters[place] === undefined) {
      throw new InvalidArgumentError(`bucket ${this.index} has no dense gradient ${place}`, { argument: "place" });
    }
    return this.#memory.viewOf(place);
  }

  /** Begins an iteration. */
  reset(): void {
    this.pending = this.members.length;
    this.exchange = undefined;
    this.#undivided = [];
  }

  /** @throws InvalidArgumentError unless {@link fill} would take this gradient of a parameter. */
  requireGradient(place: number, grad: Gradient | undefined): void {
    if (this.#memory === undefined) sparseOf(this.#parameter(place), grad);
    else if (grad !== undefined) this.#memory.requireGradient(place, grad);
  }

  /**
   * Takes over the gradient of a parameter; one that is `undefined` counts as zeros.
   *
   * @param divisor By how much it is divided; `undefined` if that is not known yet.
   * @throws InvalidArgumentError for a gradient of another dtype, length or layout.
   */
  fill(place: number, divisor: number | undefined): void {
    const parameter = this.#parameter(place);
    const { grad } = parameter;
    if (this.#memory === undefined) {
      const given = sparseOf(parameter, grad);
      if (divisor === undefined) this.#undivided.push({ place, inPlace: false });
      this.#sparse = (divisor ?? 1) === 1 ? given : scaledSparse(given, divisor as number);
      return;
    }
    if (grad === undefined) {
      this.#memory.clear(place);
      return;
    }
    const inPlace = this.#memory.copyIn(place, grad, divisor ?? 1);
    if (divisor === undefined) this.#undivided.push({ place, inPlace });
  }

  /** Divides what {@link fill} could not. */
  divide(divisor: number): void {
    for (const { place, inPlace } of this.#undivided) {
      if (this.#memory === undefined) this.#sparse = scaledSparse(this.#sparse as SparseTensor, divisor);
      else this.#memory.divide(place, divisor, inPlace);
    }
    this.#undivided = [];
  }

  /** Makes the result of the exchange the content of the buffer. */
  receive(result: Gradient): void {
    if (this.#memory === undefined) this.#sparse = result as SparseTensor;
    else this.#memory.receive(result as TensorLike);
  }

  /** Copies the average of a parameter's gradient out of the buffer, into that gradient if there is one. */
  copyOut(place: number): void {
    const parameter = this.#parameter(place);
    if (this.#memory === undefined) {
      parameter.grad = this.#sparse;
      return;
    }
    const grad = parameter.grad ?? this.#memory.gradientFor(place);
    this.#memory.copyOut(place, grad);
    parameter.grad = grad;
  }

  /** Lets go of the memory. Ops and copies that use it end first. */
  [Symbol.dispose](): void {
    this.#memory?.[Symbol.dispose]();
  }

  #parameter(place: number): Parameter {
    return this.parameters[place] as Parameter;
  }
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
