import { type CudaTensor, cuda, type DType, type TensorLike, type TensorView, viewTensor } from "../../tensor/index.ts";
import { computesOnHost } from "../device-limits.ts";
import { type Gradient, type Parameter, viewGradient } from "../parameter.ts";
import type { BucketMemory, BucketMemoryInit } from "./bucket-memory.ts";
import type { CopyStream } from "./copy-stream.ts";
import { cudaTensorOf } from "./cuda-tensor-of.ts";

/**
 * A bucket's memory on a CUDA device. What it does is queued in the stream of copies: after what was in the current stream
 * when a gradient was given.
 */
export class CudaBucketMemory implements BucketMemory {
  readonly buffer: CudaTensor;
  readonly #parameters: readonly Parameter[];
  readonly #dtype: DType;
  readonly #copies: CopyStream;
  readonly #parts: readonly CudaTensor[];

  constructor({ parameters, dtype, stream }: BucketMemoryInit & { readonly stream: CopyStream }) {
    const length = parameters.reduce((sum, each) => sum + each.length, 0);
    this.buffer = cuda.zeros(dtype, length, stream);
    let start = 0;
    this.#parts = parameters.map((each) => {
      const part = this.buffer.slice(start, each.length);
      start += each.length;
      return part;
    });
    this.#parameters = parameters;
    this.#dtype = dtype;
    this.#copies = stream;
  }

  /** A new tensor at each call, since whoever gets it may dispose of it. */
  viewOf(place: number): TensorLike {
    return this.#part(place).view(this.#parameter(place).shape);
  }

  requireGradient(place: number, grad: Gradient): void {
    this.#view(place, grad);
  }

  clear(place: number): void {
    this.#part(place).zero(this.#copies);
  }

  /** @throws UnsupportedOperationError for a divisor: there is nothing that computes on the device. */
  copyIn(place: number, grad: Gradient, divisor: number): boolean {
    if (divisor !== 1) throw this.#undivided(place);
    const { ptr } = this.#view(place, grad);
    const part = this.#part(place);
    this.#copies.follow();
    const isInPlace = ptr === part.ptr;
    if (!isInPlace) part.copyFrom(grad as TensorLike, this.#copies);
    return isInPlace;
  }

  divide(place: number): void {
    throw this.#undivided(place);
  }

  receive(result: TensorLike): void {
    if (viewTensor(result).ptr === this.buffer.ptr) return;
    this.#copies.follow();
    this.buffer.copyFrom(result, this.#copies);
  }

  copyOut(place: number, grad: Gradient): void {
    const part = this.#part(place);
    if (this.#view(place, grad).ptr === part.ptr) return;
    cudaTensorOf(grad as TensorLike).copyFrom(part, this.#copies);
  }

  gradientFor(place: number): TensorLike {
    const { dtype, shape } = this.#parameter(place);
    const made = cuda.empty(dtype, shape, this.#copies);
    made.recordStream(this.#copies.current);
    return made;
  }

  [Symbol.dispose](): void {
    for (const each of [...this.#parts, this.buffer]) each[Symbol.dispose]();
  }

  #view(place: number, grad: Gradient): TensorView {
    return viewGradient(this.#parameter(place), grad, this.#dtype);
  }

  #part(place: number): CudaTensor {
    return this.#parts[place] as CudaTensor;
  }

  #parameter(place: number): Parameter {
    return this.#parameters[place] as Parameter;
  }

  #undivided(place: number): Error {
    return computesOnHost("averaging gradients", this.#parameter(place), "only the library can divide them");
  }
}
