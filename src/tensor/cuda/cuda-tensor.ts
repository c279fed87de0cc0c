import { brand, describe, InvalidArgumentError } from "../../errors/index.ts";
import type { Device, Stream } from "../device.ts";
import { type DType, dtypes, requireDType } from "../dtype.ts";
import { type EmptyTensor, empty } from "../empty.ts";
import { haveCommonBytes } from "../extent.ts";
import { bytesOf } from "../memory.ts";
import { holds as hasElements, tensor } from "../tensor.ts";
import { type Hold, holdTensorsIn, releaseHolds, TENSOR_HOLD } from "../tensor-hold.ts";
import { type ForeignTensor, TENSOR_PROTOCOL, type TensorLike, type TensorView, viewTensor } from "../tensor-view.ts";
import { onDevice } from "./contexts.ts";
import { copyFromDevice, copyFromHost, type DeviceRange, fillFromHost, HostCopy } from "./copies.ts";
import { type CudaStream, currentStream, placeOf, requireStream } from "./cuda-stream.ts";
import { deviceNamed } from "./device-ordinal.ts";
import { requireDevicePointer } from "./device-pointer.ts";
import type { WaitOptions } from "./device-wait.ts";
import { requireSuccess } from "./driver.ts";
import type { StreamPlace } from "./raw-events.ts";
import type { Storage } from "./storage.ts";
import { viewOfArgument } from "./view-of-argument.ts";

/** Options of what is queued in a stream. */
export interface StreamOptions {
  /** The current stream of the tensor's device by default. */
  readonly stream?: CudaStream | undefined;
}

/** Options of a copy that is waited for. */
export interface CopyOptions extends StreamOptions, WaitOptions {}

type Shape = number | readonly number[];

interface Leakable {
  readonly storage: Storage;
  readonly release: Hold;
}

const leaked = new FinalizationRegistry<Leakable>(({ storage, release }) => {
  storage.countLeak();
  release();
});

/**
 * A dense tensor in the memory of a CUDA device, made by `cuda.empty()`, `cuda.zeros()`, `cuda.from()` or
 * `cuda.foreign()`. Every op accepts it. Views of it share its memory, which is freed when all of them were disposed of
 * or collected and no op or queued copy uses it any more.
 *
 * Its methods queue work in a stream and return at once, but for those that wait, as their results say.
 */
export class CudaTensor<D extends DType = DType, S extends Shape = Shape> implements Disposable {
  static {
    brand(CudaTensor, "CudaTensor");
  }
  /** What its elements are. */
  readonly dtype: D;
  /** Length of each dimension. */
  readonly shape: readonly number[];
  /** The CUDA device whose memory it is in. */
  readonly device: Device;
  /** Number of elements. */
  readonly length: number;
  /** Bytes of all elements. */
  readonly byteLength: number;
  readonly #storage: Storage;
  readonly #offset: number;
  readonly #release: Hold;
  #isDisposed = false;

  /** For this package: the functions of `cuda` make tensors. */
  constructor(storage: Storage, offset: number, dtype: D, shape: readonly number[]) {
    this.#storage = storage;
    this.#offset = offset;
    this.#release = storage.retain();
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.device = deviceNamed(storage.device);
    this.length = shape.reduce((product, n) => product * n, 1);
    this.byteLength = this.length * dtypes[dtype].size;
    leaked.register(this, { storage, release: this.#release }, this);
  }

  /** Address of the first element on the device. */
  get ptr(): number {
    return this.#live("ptr").address + this.#offset;
  }

  /** Whether this tensor was disposed of; ops in flight and its views may still use the memory. */
  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  [TENSOR_PROTOCOL](): ForeignTensor {
    const { ptr, byteLength, dtype, device } = this;
    return { ptr, byteLength, dtype, device };
  }

  /** Keeps the memory for an op; also when it was disposed of, as long as another hold keeps it. */
  [TENSOR_HOLD](stream?: Stream): Hold {
    const storage = this.#storage.isHeld ? this.#storage : this.#live("op");
    return storage.hold(stream === undefined ? undefined : placeOf(stream));
  }

  /** A view with another shape and the same elements. */
  view<const T extends Shape>(shape: T): CudaTensor<D, T> {
    const sizes: readonly number[] = typeof shape === "number" ? [shape] : (shape as readonly number[]);
    const storage = this.#live("view");
    if (!hasElements(sizes, this.length)) {
      const given = Array.isArray(sizes) ? `[${sizes.map(String).join(", ")}]` : describe(sizes);
      throw new InvalidArgumentError(`CudaTensor.view: shape ${given} does not hold ${this.length} elements`, {
        argument: "shape",
      });
    }
    return new CudaTensor<D, T>(storage, this.#offset, this.dtype, sizes);
  }

  /** A view of the same bytes as elements of another dtype: the last dimension changes if its size does. */
  as<E extends DType>(dtype: E): CudaTensor<E, S> {
    requireDType("CudaTensor.as", dtype);
    const storage = this.#live("as");
    const { size } = dtypes[dtype];
    const last = (this.shape.at(-1) ?? 1) * dtypes[this.dtype].size;
    if (last % size !== 0 || (storage.address + this.#offset) % size !== 0) {
      throw new InvalidArgumentError(
        `CudaTensor.as: rows of ${last} bytes, ${this.#offset} bytes into the memory, are not whole elements of ${dtype}`,
        { argument: "dtype" },
      );
    }
    const isScalar = this.shape.length === 0 && size === last;
    const shape = isScalar ? [] : [...this.shape.slice(0, -1), last / size];
    return new CudaTensor<E, S>(storage, this.#offset, dtype, shape);
  }

  /** A view of `length` elements from `start` on, in one dimension; by default of all that follow. */
  slice(start: number, length: number = this.length - start): CudaTensor<D, number> {
    const storage = this.#live("slice");
    requirePart("slice", start, length, this.length, "elements");
    return new CudaTensor<D, number>(storage, this.#offset + start * dtypes[this.dtype].size, this.dtype, [length]);
  }

  /** A view of `length` rows from `start` on, along the first dimension. c10d: `torch.narrow` with dimension 0. */
  narrow(start: number, length: number): CudaTensor<D, S> {
    const storage = this.#live("narrow");
    const [rows = 0, ...row] = this.shape;
    requirePart("narrow", start, length, rows, "rows");
    const rowBytes = rows === 0 ? 0 : this.byteLength / rows;
    return new CudaTensor<D, S>(storage, this.#offset + start * rowBytes, this.dtype, [length, ...row]);
  }

  /**
   * A copy of what it has when the stream gets there, in new host memory: a TypedArray if that can express dtype and
   * shape, else a `Tensor`. Waits without blocking this thread. c10d: `tensor.cpu()`.
   */
  async toHost(options: CopyOptions = {}): Promise<EmptyTensor<D, S>> {
    const { copy, made } = this.#queueToHost("toHost", options);
    await copy.finish("CudaTensor.toHost", options);
    return made;
  }

  /** {@link toHost}, blocking this thread. */
  toHostSync(options: CopyOptions = {}): EmptyTensor<D, S> {
    const { copy, made } = this.#queueToHost("toHostSync", options);
    copy.finishSync("CudaTensor.toHostSync", options);
    return made;
  }

  #queueToHost(method: string, options: CopyOptions): { copy: HostCopy; made: EmptyTensor<D, S> } {
    const stream = this.#streamOf(method, options);
    const made = empty(this.dtype, this.shape) as TensorLike;
    const copy = new HostCopy(this.#range(method), viewTensor(made), stream);
    return { copy, made: made as EmptyTensor<D, S> };
  }

  /**
   * Queues a copy of all elements of a tensor of the same dtype and length, on the host or on any device. Host memory is
   * read at once, so it may be changed afterwards; page-locked memory of `cuda.pinned()` is read by the device when the
   * stream gets there.
   *
   * Between devices, the copy is in the current stream of the source, and ordered with that of this tensor.
   */
  copyFrom(source: TensorLike, options: StreamOptions = {}): this {
    const range = this.#range("copyFrom");
    const view = viewOfArgument("CudaTensor.copyFrom", "source", source);
    this.#requireAlike("copyFrom", "source", view);
    if (view.device.type === "cpu") {
      copyFromHost(range, view, this.#streamOf("copyFrom", options));
      return this;
    }
    if (!(source instanceof CudaTensor)) requireDevicePointer("CudaTensor.copyFrom: source", view);
    if (view.ptr === range.address || view.byteLength === 0) return this;
    this.#requireApart(view);
    const [own, other] = [this.device.index, view.device.index];
    const { stream } = options;
    const chosen = stream === undefined ? currentStream(other) : this.#requireEitherStream(stream, other);
    const place = placeOf(chosen);
    this.#storage.usedIn(place);
    const holds = source instanceof CudaTensor ? source.#usedIn(place) : holdTensorsIn(chosen, [view]);
    const after = own === other || stream !== undefined ? [] : [placeOf(currentStream(own))];
    try {
      copyFromDevice(range, view, place, after, holds);
    } catch (error) {
      releaseHolds(holds);
      throw error;
    }
    return this;
  }

  /**
   * Copies all elements to a tensor of the same dtype and length, on the host or on any device; resolves when they are
   * there. Page-locked memory of `cuda.pinned()` is written by the device itself, other host memory at the end.
   */
  async copyTo(target: TensorLike, options: CopyOptions = {}): Promise<void> {
    if (target instanceof CudaTensor) {
      target.copyFrom(this, options);
      const stream = options.stream ?? currentStream(this.device);
      await stream.synchronize(options);
      return;
    }
    const view = viewOfArgument("CudaTensor.copyTo", "target", target);
    this.#requireAlike("copyTo", "target", view);
    if (view.device.type !== "cpu") {
      throw new InvalidArgumentError(
        "CudaTensor.copyTo: target is foreign memory of a device; wrap it by cuda.foreign() and use its copyFrom()",
        { argument: "target" },
      );
    }
    const copy = new HostCopy(this.#range("copyTo"), view, this.#streamOf("copyTo", options));
    await copy.finish("CudaTensor.copyTo", options);
  }

  /** Queues setting all bytes to 0. */
  zero(options: StreamOptions = {}): this {
    return this.#setBytes("zero", 0, options);
  }

  /** Queues setting all elements to a value, which `tensor()` has to accept; complex numbers get it as the real part. */
  fill(value: number | bigint | boolean, options: StreamOptions = {}): this {
    const { dtype } = this;
    const { kind } = dtypes[dtype];
    const element = bytesOf(tensor(kind === "complex" ? [value, 0] : [value], { dtype }).data);
    const [first = 0] = element;
    if (element.every((byte) => byte === first)) return this.#setBytes("fill", first, options);
    const range = this.#range("fill");
    fillFromHost(range, element, this.#streamOf("fill", options));
    return this;
  }

  #setBytes(method: string, byte: number, options: StreamOptions): this {
    const { address, byteLength } = this.#range(method);
    const { handle } = this.#streamOf(method, options);
    if (byteLength === 0) return this;
    requireSuccess(
      onDevice(this.device.index, (symbols) => symbols.cuMemsetD8Async(address, byte, byteLength, handle)),
      "cuMemsetD8Async",
    );
    return this;
  }

  /**
   * Notes that work in a stream uses the memory that this package does not know of, such as a kernel of another library:
   * it is freed after that. c10d: `tensor.record_stream`.
   */
  recordStream(stream: CudaStream): void {
    this.#live("recordStream").usedIn(placeOf(requireStream("CudaTensor.recordStream", stream)));
  }

  /** The stream of an operation on this tensor, noted as one that uses it. */
  #streamOf(method: string, options: StreamOptions): StreamPlace {
    const { index } = this.device;
    const { stream } = options ?? {};
    const found = stream === undefined ? currentStream(index) : requireStream(`CudaTensor.${method}`, stream, index);
    const place = placeOf(found);
    this.#live(method).usedIn(place);
    return place;
  }

  #requireEitherStream(stream: CudaStream, other: number): CudaStream {
    const { index } = requireStream("CudaTensor.copyFrom", stream).device;
    return requireStream("CudaTensor.copyFrom", stream, index === other ? other : this.device.index);
  }

  /** The memory is used in a stream; no hold is needed, since freeing it waits for that. */
  #usedIn(place: StreamPlace): readonly Hold[] {
    this.#live("copyFrom").usedIn(place);
    return [];
  }

  #range(method: string): DeviceRange {
    const { byteLength } = this;
    return { device: this.device.index, address: this.#live(method).address + this.#offset, byteLength };
  }

  #live(method: string): Storage {
    if (!this.#isDisposed) return this.#storage;
    throw new InvalidArgumentError(
      `CudaTensor.${method}: the tensor (${this.dtype} [${this.shape.join(", ")}] on cuda:${this.device.index}) was disposed of`,
      { code: "DISPOSED", argument: "tensor" },
    );
  }

  #requireAlike(method: string, argument: string, { dtype, length }: TensorView): void {
    if (dtype === this.dtype && length === this.length) return;
    throw new InvalidArgumentError(
      `CudaTensor.${method}: ${argument} has ${length} elements of ${dtype}, this tensor ${this.length} of ${this.dtype}`,
      { argument },
    );
  }

  #requireApart({ ptr, byteLength }: TensorView): void {
    const { address } = this.#range("copyFrom");
    const extent = (start: number, bytes: number) => ({ space: CudaTensor, start, end: start + bytes });
    if (!haveCommonBytes(extent(ptr, byteLength), extent(address, this.byteLength))) return;
    throw new InvalidArgumentError("CudaTensor.copyFrom: source and this tensor overlap", {
      argument: "source",
      code: "OVERLAPPING_TENSORS",
    });
  }

  /**
   * Gives up this tensor; its memory is freed with its last view, after the ops and copies that use it. It never waits
   * for the device, and doing it again has no effect.
   */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    leaked.unregister(this);
    this.#release();
  }
}

function requirePart(method: string, start: number, length: number, total: number, unit: string): void {
  const isCount = (n: unknown): boolean => Number.isSafeInteger(n) && Number(n) >= 0;
  if (isCount(start) && isCount(length) && start + length <= total) return;
  throw new InvalidArgumentError(
    `CudaTensor.${method}: ${String(length)} ${unit} from ${String(start)} on are not within ${total}`,
    { argument: "length" },
  );
}
