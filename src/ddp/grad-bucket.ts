import { describe, InvalidArgumentError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import {
  type Device,
  type DType,
  SparseTensor,
  type Stream,
  Tensor,
  type TensorLike,
  viewTensor,
} from "../tensor/index.ts";
import { isOnDevice, isSameDevice, nameOfDevice } from "./device-limits.ts";
import { partOfStorage } from "./elements.ts";
import type { CopyStream } from "./memory/copy-stream.ts";
import { cudaTensorOf } from "./memory/cuda-tensor-of.ts";
import { type Gradient, type Parameter, storageOf } from "./parameter.ts";

/** Parameters of a {@link GradBucket}. */
export interface GradBucketInit {
  readonly group: ProcessGroup;
  readonly index: number;
  /** Number of buckets. */
  readonly count: number;
  readonly dtype: DType;
  readonly device: Device;
  readonly stream: CopyStream | undefined;
  readonly parameters: readonly Parameter[];
  readonly buffer: Gradient;
  /** Whether all ranks leave the division to the library. */
  readonly averages: boolean;
}

/**
 * The gradients of several parameters, one after the other in one flat tensor, which a communication hook exchanges as a
 * whole. Made by a `Reducer`.
 *
 * c10d: `GradBucket`.
 */
export class GradBucket {
  readonly #init: GradBucketInit;
  #buffer: Gradient;

  /** @internal */
  constructor(init: GradBucketInit) {
    this.#init = init;
    this.#buffer = init.buffer;
  }

  /** The group whose ranks exchange it. */
  get group(): ProcessGroup {
    return this.#init.group;
  }

  /** dtype of its gradients. */
  get dtype(): DType {
    return this.#init.dtype;
  }

  /** Where its gradients are. */
  get device(): Device {
    return this.#init.device;
  }

  /**
   * On a device, the stream in which its gradients are there. It is the current one until the first `await` of a hook; a hook
   * that is not `pipelined` is called when the gradients are there, so that it can use any stream.
   */
  get stream(): Stream | undefined {
    return this.#init.stream?.stream;
  }

  /** @internal */
  get copyStream(): CopyStream | undefined {
    return this.#init.stream;
  }

  /**
   * Whether all ranks are known to leave the division of gradients to the library.
   * @internal
   */
  get averagesInLibrary(): boolean {
    return this.#init.averages;
  }

  /** Place among the buckets, which are exchanged in this order. The buckets may change after the first iteration. */
  index(): number {
    return this.#init.index;
  }

  /**
   * The flat tensor: this rank's gradients, not yet divided by the number of ranks. Of a parameter with sparse
   * gradients, its {@link SparseTensor}.
   */
  buffer(): Gradient {
    return this.#buffer;
  }

  /** Number of elements of a dense bucket. */
  get length(): number {
    return this.#init.parameters.reduce((sum, each) => sum + each.length, 0);
  }

  /** {@link buffer} of a bucket of dense gradients. @throws InvalidArgumentError for a sparse one. */
  dense(): TensorLike {
    if (!(this.#buffer instanceof SparseTensor)) return this.#buffer;
    const [parameter] = this.#init.parameters;
    throw new InvalidArgumentError(
      `bucket ${this.index()} has the sparse gradient of ${parameter?.name}, but the hook takes dense gradients only`,
      { argument: "bucket" },
    );
  }

  /** For each parameter, its part of {@link buffer} in the shape of the parameter, in the same memory. */
  gradients(): Gradient[] {
    const buffer = this.#buffer;
    if (buffer instanceof SparseTensor) return [buffer];
    const { parameters, dtype, device } = this.#init;
    const partOf = isOnDevice({ device }) ? partsOnDevice(buffer) : partsOnHost(buffer, dtype);
    let start = 0;
    return parameters.map(({ length, shape }) => {
      const part = partOf(start, length, shape);
      start += length;
      return part;
    });
  }

  /** The parameters whose gradients these are, in the same order. */
  parameters(): Parameter[] {
    return [...this.#init.parameters];
  }

  /** Whether it is the last one of an iteration. */
  isLast(): boolean {
    return this.#init.index === this.#init.count - 1;
  }

  /**
   * The same bucket with its gradients in another dtype.
   * @internal
   */
  withBuffer(buffer: TensorLike, dtype: DType): GradBucket {
    return new GradBucket({ ...this.#init, buffer, dtype });
  }

  /**
   * Replaces the tensor.
   * @throws InvalidArgumentError unless it has the length and dtype of the bucket.
   */
  setBuffer(buffer: Gradient): void {
    this.#buffer = requireBuffer(buffer, this, "setBuffer()");
  }
}

/** @throws InvalidArgumentError unless a tensor can take the place of a bucket's. */
export function requireBuffer(value: unknown, bucket: GradBucket, what: string): Gradient {
  const [buffer, index] = [bucket.buffer(), bucket.index()];
  const { dtype } = bucket;
  const refuse = (reason: string): never => {
    const names = bucket
      .parameters()
      .map(({ name }) => name)
      .join(", ");
    throw new InvalidArgumentError(`${what}: bucket ${index} (${names}) needs ${reason}`, { argument: "buffer" });
  };
  if (buffer instanceof SparseTensor) {
    if (value instanceof SparseTensor && value.dtype === dtype && String(value.shape) === String(buffer.shape)) {
      return value;
    }
    return refuse(`a SparseTensor of ${dtype} and shape [${buffer.shape.join(", ")}], got ${describe(value)}`);
  }
  const { length, device } = viewTensor(buffer);
  let given: { readonly dtype: DType; readonly length: number; readonly device: Device };
  try {
    given = viewTensor(value as TensorLike);
  } catch {
    return refuse(`a tensor of ${length} elements of ${dtype}, got ${describe(value)}`);
  }
  if (!isSameDevice(given.device, device)) {
    return refuse(`a tensor on ${nameOfDevice(device)}, got one on ${nameOfDevice(given.device)}`);
  }
  if (given.dtype === dtype && given.length === length) return value as TensorLike;
  return refuse(`${length} elements of ${dtype}, got ${given.length} of ${given.dtype}`);
}

type PartOf = (start: number, length: number, shape: readonly number[]) => TensorLike;

function partsOnHost(buffer: TensorLike, dtype: DType): PartOf {
  const storage = storageOf(buffer, "buffer");
  return (start, length, shape) => new Tensor(partOfStorage(storage, dtype, start, length), dtype, shape);
}

function partsOnDevice(buffer: TensorLike): PartOf {
  const whole = cudaTensorOf(buffer);
  return (start, length, shape) => whole.slice(start, length).view(shape);
}
