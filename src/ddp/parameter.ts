import { describe, InvalidArgumentError } from "../errors/index.ts";
import {
  cuda,
  type Device,
  type DType,
  dtypes,
  empty,
  SparseTensor,
  Tensor,
  type TensorLike,
  type TensorStorage,
  type TensorView,
  viewTensor,
} from "../tensor/index.ts";
import { computesOnHost, isOnDevice, isSameDevice, nameOfDevice } from "./device-limits.ts";

/** A tensor of a model: a parameter, or a buffer such as a running mean. */
export interface ModelTensor {
  /** Unique among the tensors of the model; errors name it. */
  readonly name: string;
  /** Its values. A framework whose tensors cannot be read in place gives a copy here and has {@link received}. */
  readonly data: TensorLike;
  /** Sizes of its dimensions, if `data` is a TypedArray of more than one. */
  readonly shape?: readonly number[];
  /** Called when values from another rank have been written into what `data` gave; a promise that it returns is awaited. */
  received?(values: TensorLike): unknown;
}

/** A trainable tensor of a model. */
export interface ModelParameter extends ModelTensor {
  /** Whether its gradients are a {@link SparseTensor}. Default is `false`. */
  readonly sparse?: boolean;
}

/** A parameter of a model, trained or not. */
export interface TrainedParameter extends ModelParameter {
  /** `false` for one that is only copied from rank 0, and gets no gradients. Default is `true`. c10d: `requires_grad`. */
  readonly requiresGrad?: boolean;
}

/** What a backward pass gives for a parameter. */
export type Gradient = TensorLike | SparseTensor;

/** dtypes that can have gradients. */
const trainable: ReadonlySet<DType> = new Set(["float32", "float64", "float16", "bfloat16", "complex64", "complex128"]);

/**
 * A parameter and its gradient. Shape and dtype are read once, when it is made.
 *
 * c10d: a `torch.nn.Parameter`, of which `grad` is what a `Reducer` reads and writes.
 */
export class Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: Device;
  /** Number of elements. */
  readonly length: number;
  /** Whether its gradients are sparse. */
  readonly sparse: boolean;
  /** The tensor of the model. */
  readonly source: ModelTensor;
  /**
   * The gradient of this rank, or after a backward pass the average of all ranks. `undefined` for a parameter that no
   * rank has used.
   */
  grad: Gradient | undefined;

  /**
   * @throws InvalidArgumentError unless `source` is a dense tensor of floats or complex numbers with a name;
   *   UnsupportedOperationError for sparse gradients on a device.
   */
  constructor(source: ModelParameter) {
    const { name, shape, dtype, device, length } = factsOf(source);
    if (!trainable.has(dtype)) {
      throw new InvalidArgumentError(
        `parameter ${name}: only tensors of floating point and complex dtype can have gradients, got ${dtype}`,
        { argument: "data" },
      );
    }
    this.name = name;
    this.shape = shape;
    this.dtype = dtype;
    this.device = device;
    this.length = length;
    this.sparse = source.sparse === true;
    if (this.sparse && isOnDevice(this)) {
      throw computesOnHost(
        "sparse: true",
        this,
        "there are no sparse gradients; keep it in host memory, or make its gradients dense",
      );
    }
    this.source = source;
  }

  /** Size of a dense gradient in bytes. */
  get byteLength(): number {
    return this.length * dtypes[this.dtype].size;
  }
}

/** A gradient of zeros in the form of a parameter's values: a TypedArray where that has the dtype. */
export function zerosLike({ dtype, length, shape }: Parameter): TensorLike {
  const flat = empty(dtype, length);
  return flat instanceof Tensor ? new Tensor(flat.data, dtype, shape) : flat;
}

/** The elements of a dense gradient in host memory. */
export interface DenseGradient {
  readonly data: TensorStorage;
  readonly dtype: DType;
}

/**
 * The elements of a gradient in host memory.
 *
 * @param otherType Another dtype that it may have besides that of the parameter.
 * @throws InvalidArgumentError as {@link viewGradient} does.
 */
export function denseGradient(parameter: Parameter, grad: Gradient, otherType?: DType): DenseGradient {
  const { dtype, data } = viewGradient(parameter, grad, otherType);
  return { data: elementsOf(data as TensorStorage, dtype, `gradient of ${parameter.name}`), dtype };
}

/**
 * Where a gradient is.
 *
 * @param otherType Another dtype that it may have besides that of the parameter.
 * @throws InvalidArgumentError unless it is dense, in memory of the parameter's device, and has the length and shape of the
 *   parameter. A TypedArray, or a tensor of one dimension, has any shape.
 */
export function viewGradient(parameter: Parameter, grad: Gradient, otherType?: DType): TensorView {
  const { name, dtype, length, shape, device } = parameter;
  const isRemote = device.type !== "cpu";
  const refuse = (got: string): never => {
    const where = isRemote ? ` on ${nameOfDevice(device)}` : "";
    throw new InvalidArgumentError(
      `Expected a dense gradient of ${length} elements of ${dtype}${where} for parameter ${name}, got ${got}`,
      { argument: "gradient" },
    );
  };
  const isArray = ArrayBuffer.isView(grad);
  if (!isArray && grad instanceof SparseTensor) {
    return refuse("a SparseTensor; parameters with sparse gradients have `sparse: true`, and those cannot be added up");
  }
  const view = viewTensor(grad, `gradient of ${name}`);
  // Memory of another library on the host has no elements here.
  const isThere = isRemote ? isSameDevice(view.device, device) : view.data !== undefined;
  if (!isThere) return refuse(`memory of ${isOnDevice(view) ? nameOfDevice(view.device) : "the host"}`);
  if (view.length !== length || (view.dtype !== dtype && view.dtype !== otherType)) {
    return refuse(`${view.length} elements of ${view.dtype}`);
  }
  const own = isArray ? undefined : shapeOf(grad, device);
  if (own !== undefined && own.length > 1 && String(own) !== String(shape)) {
    return refuse(`one of shape [${own.join(", ")}], not [${shape.join(", ")}]`);
  }
  return view;
}

/** Arrays that have the elements of a dtype, or their parts. */
const arrays: Readonly<
  Partial<
    Record<
      DType,
      {
        new (buffer: ArrayBufferLike, byteOffset: number, length: number): TensorStorage;
        readonly BYTES_PER_ELEMENT: number;
      }
    >
  >
> = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Float16Array,
  bfloat16: Uint16Array,
  complex64: Float32Array,
  complex128: Float64Array,
};

/** The same memory in the array of a dtype: a `Tensor` may be over another one. */
function elementsOf(data: TensorStorage, dtype: DType, what: string): TensorStorage {
  const Elements = arrays[dtype];
  if (Elements === undefined || data instanceof Elements) return data;
  if (data.byteOffset % Elements.BYTES_PER_ELEMENT !== 0) {
    throw new InvalidArgumentError(`${what}: byte offset ${data.byteOffset} is not aligned for ${dtype}`, {
      argument: what,
    });
  }
  return new Elements(data.buffer, data.byteOffset, data.byteLength / Elements.BYTES_PER_ELEMENT);
}

/** What is known of a tensor without its values. */
export interface TensorFacts {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: Device;
  readonly length: number;
}

/** Reads name, shape and dtype of a tensor of a model. */
export function factsOf(source: ModelTensor): TensorFacts {
  if (typeof source !== "object" || source === null || typeof source.name !== "string") {
    throw new InvalidArgumentError(
      `a tensor of a model is { name, data } with a name as text, such as { name: "weight", data: weight }, got ${describe(source)}`,
      { argument: "parameters" },
    );
  }
  const { name, data } = source;
  const { dtype, device, length } = viewTensor(data, `data of ${name}`);
  const shape = source.shape ?? shapeOf(data, device) ?? [length];
  const isShape = Array.isArray(shape) && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (!isShape || shape.reduce((product: number, n: number) => product * n, 1) !== length) {
    throw new InvalidArgumentError(
      `${name}: shape ${Array.isArray(shape) ? `[${shape.map(String).join(", ")}]` : describe(shape)} does not hold its ${length} elements`,
      { argument: "shape" },
    );
  }
  return { name, shape: [...shape], dtype, device, length };
}

/** Sizes of the dimensions of a tensor that has them. */
export function shapeOf(data: TensorLike, device: Device): readonly number[] | undefined {
  if (data instanceof Tensor) return data.shape;
  // Not loaded for tensors on the host.
  return device.type === "cuda" && data instanceof cuda.CudaTensor ? data.shape : undefined;
}

/**
 * Host memory of the values of a tensor, to compute with.
 * @throws UnsupportedOperationError for memory of a device, InvalidArgumentError for that of another library.
 */
export function storageOf(data: TensorLike, what: string): TensorStorage {
  const view = viewTensor(data, what);
  if (view.data !== undefined) return elementsOf(view.data, view.dtype, what);
  if (!isOnDevice(view)) {
    throw new InvalidArgumentError(`${what} is memory of another library, of which only the address is known`, {
      argument: what,
    });
  }
  const remedy = "this library cannot compute with its elements; use tensors in host memory";
  throw computesOnHost("data parallelism", { name: what, device: view.device }, remedy);
}
