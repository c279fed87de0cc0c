import { type DType, dtypeOfArray, dtypes, type Tensor, type TensorStorage, tensor } from "../../tensor/index.ts";
import { mix } from "./patterns.ts";

/** Elements before and after the tensor. */
const MARGIN = 3;

let made = 0;

/** A tensor in the middle of a buffer, with guards around it that nobody may touch. */
export class PlacedTensor {
  readonly dtype: DType;
  /** What a user would pass: a TypedArray where there is one for the dtype. */
  readonly tensor: TensorStorage | Tensor;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #margins: readonly Uint8Array<ArrayBuffer>[];
  readonly #guards: readonly Uint8Array<ArrayBuffer>[];

  constructor(dtype: DType, contents: Uint8Array) {
    const { size } = dtypes[dtype];
    this.dtype = dtype;
    const [start, end] = [MARGIN * size, MARGIN * size + contents.length];
    const memory = new Uint8Array(end + MARGIN * size);
    this.bytes = memory.subarray(start, end);
    this.#margins = [memory.subarray(0, start), memory.subarray(end)];
    // Not the same on any two ranks, so that it shows when a guard goes along with its tensor.
    const seed = mix(process.pid, ++made);
    for (const [side, margin] of this.#margins.entries()) margin.set(margin.map((_, i) => mix(seed, side, i)));
    this.#guards = this.#margins.map((margin) => margin.slice());
    this.bytes.set(contents);
    const view = tensor(this.bytes, { dtype });
    this.tensor = dtypeOfArray(view.data) === dtype ? view.data : view;
  }

  /** A tensor of zeros. */
  static empty(dtype: DType, length: number): PlacedTensor {
    return new PlacedTensor(dtype, new Uint8Array(length * dtypes[dtype].size));
  }

  /** What differs from the expected bytes or was written beside the tensor; undefined if nothing. */
  difference(expected: Uint8Array): string | undefined {
    const { length } = this.bytes;
    const side = this.#margins.findIndex((margin, i) => Buffer.compare(margin, this.#guards[i] ?? margin) !== 0);
    if (side >= 0) return `memory ${side === 0 ? "before" : "behind"} the tensor was written to`;
    if (Buffer.compare(this.bytes, expected) === 0) return undefined;
    const at = this.bytes.findIndex((byte, i) => byte !== expected[i]);
    const element = Math.floor(at / dtypes[this.dtype].size);
    return `element ${element} of ${length / dtypes[this.dtype].size}: byte ${at} is ${this.bytes[at]}, expected ${expected[at]}`;
  }
}
