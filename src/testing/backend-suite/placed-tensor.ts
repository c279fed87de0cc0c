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
    const { size } = dtypes[this.dtype];
    const element = Math.floor(this.bytes.findIndex((byte, i) => byte !== expected[i]) / size);
    const [is, wanted] = [this.bytes, expected].map((bytes) => bytes.slice(element * size, (element + 1) * size));
    return `element ${element} of ${length / size} ${comparison(is, wanted, this.dtype)}`;
  }
}

/** Two elements that differ, as values; as bytes where these look the same, as those of NaN do. */
function comparison(is = new Uint8Array(), expected = new Uint8Array(), dtype: DType): string {
  const [value, wanted] = [elementText(is, dtype), elementText(expected, dtype)];
  if (value !== wanted) return `is ${value}, expected ${wanted}`;
  return `(${value}) has the bytes ${is.toHex()}, expected ${expected.toHex()}`;
}

function elementText(bytes: Uint8Array, dtype: DType): string {
  const element = tensor(bytes, { dtype });
  const { data } = element;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return String(data[0]);
  const [real, imaginary] = element.toNumbers();
  return imaginary === undefined ? String(real) : `(${real}, ${imaginary})`;
}
