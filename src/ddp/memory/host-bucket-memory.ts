import {
  type DType,
  dtypeOfArray,
  empty,
  Tensor,
  type TensorLike,
  type TensorStorage,
  viewTensor,
} from "../../tensor/index.ts";
import { copyElements, divideElements, isSameMemory, partOfStorage, scaleElements } from "../elements.ts";
import { denseGradient, type Gradient, type Parameter, storageOf, zerosLike } from "../parameter.ts";
import type { BucketMemory, BucketMemoryInit } from "./bucket-memory.ts";

/** A bucket's memory on the host. */
export class HostBucketMemory implements BucketMemory {
  readonly buffer: TensorLike;
  readonly #parameters: readonly Parameter[];
  readonly #dtype: DType;
  readonly #storage: TensorStorage;
  readonly #views: readonly TensorStorage[];

  constructor({ parameters, dtype }: BucketMemoryInit) {
    const length = parameters.reduce((sum, each) => sum + each.length, 0);
    this.buffer = empty(dtype, length);
    const storage = storageOf(this.buffer, "buffer");
    let start = 0;
    this.#views = parameters.map((each) => {
      const view = partOfStorage(storage, dtype, start, each.length);
      start += each.length;
      return view;
    });
    this.#storage = storage;
    this.#parameters = parameters;
    this.#dtype = dtype;
  }

  /** A TypedArray where that has the dtype. */
  viewOf(place: number): TensorLike {
    const view = this.#view(place);
    return dtypeOfArray(view) === this.#dtype ? view : new Tensor(view, this.#dtype, this.#parameter(place).shape);
  }

  requireGradient(place: number, grad: Gradient): void {
    denseGradient(this.#parameter(place), grad, this.#dtype);
  }

  clear(place: number): void {
    const view = this.#view(place);
    new Uint8Array(view.buffer, view.byteOffset, view.byteLength).fill(0);
  }

  copyIn(place: number, grad: Gradient, divisor: number): boolean {
    const view = this.#view(place);
    const { data, dtype } = denseGradient(this.#parameter(place), grad, this.#dtype);
    const inPlace = isSameMemory(data, view);
    if (divisor === 1) {
      if (!inPlace) copyElements(view, this.#dtype, data, dtype);
    } else if (inPlace) divideElements(view, this.#dtype, divisor);
    // As PyTorch does: multiplied on the way, which is cheaper than a division.
    else scaleElements(view, this.#dtype, data, dtype, 1 / divisor);
    return inPlace;
  }

  divide(place: number, divisor: number, inPlace: boolean): void {
    const view = this.#view(place);
    if (inPlace) divideElements(view, this.#dtype, divisor);
    else scaleElements(view, this.#dtype, view, this.#dtype, 1 / divisor);
  }

  receive(result: TensorLike): void {
    const { data, dtype } = viewTensor(result);
    if (data !== undefined && !isSameMemory(this.#storage, data)) copyElements(this.#storage, this.#dtype, data, dtype);
  }

  copyOut(place: number, grad: Gradient): void {
    const view = this.#view(place);
    const { data, dtype } = denseGradient(this.#parameter(place), grad, this.#dtype);
    if (!isSameMemory(data, view)) copyElements(data, dtype, view, this.#dtype);
  }

  gradientFor(place: number): TensorLike {
    return zerosLike(this.#parameter(place));
  }

  [Symbol.dispose](): void {}

  #view(place: number): TensorStorage {
    return this.#views[place] as TensorStorage;
  }

  #parameter(place: number): Parameter {
    return this.#parameters[place] as Parameter;
  }
}
