import { type DType, dtypes, type TensorLike, tensor } from "../../tensor/index.ts";
import { mix } from "./patterns.ts";
import type { Placed, TensorPlace } from "./tensor-place.ts";

/** Elements before and after the tensor. */
const MARGIN = 3;

let made = 0;

/** A tensor between guard bytes that must not change. */
export class PlacedTensor {
  readonly dtype: DType;
  readonly #placed: Placed;
  readonly #given: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  readonly #guards: readonly Uint8Array[];

  constructor(place: TensorPlace, dtype: DType, contents: Uint8Array) {
    const { size } = dtypes[dtype];
    this.dtype = dtype;
    this.#given = contents;
    this.#start = MARGIN * size;
    this.#end = this.#start + contents.length;
    const bytes = new Uint8Array(this.#end + MARGIN * size);
    // Different on every rank, so that a guard that is sent along with its tensor is detected.
    const seed = mix(process.pid, ++made);
    this.#guards = this.#marginsOf(bytes).map((margin, side) => {
      margin.set(margin.map((_, i) => mix(seed, side, i)));
      return margin.slice();
    });
    bytes.set(contents, this.#start);
    this.#placed = place.put(bytes, dtype, this.#start, this.#end);
  }

  /** What a user would pass. */
  get tensor(): TensorLike {
    return this.#placed.tensor;
  }

  /** The bytes of the tensor as they are now. */
  contents(): Uint8Array {
    return this.#placed.read().slice(this.#start, this.#end);
  }

  /**
   * Describes the first difference from the expected bytes, by default those that it was made with, or a change of the
   * guards; undefined if there is none.
   */
  difference(expected: Uint8Array = this.#given): string | undefined {
    const all = this.#placed.read();
    const margins = this.#marginsOf(all);
    const side = margins.findIndex((margin, i) => Buffer.compare(margin, this.#guards[i] ?? margin) !== 0);
    if (side >= 0) return `memory ${side === 0 ? "before" : "behind"} the tensor was written to`;
    const bytes = all.subarray(this.#start, this.#end);
    if (Buffer.compare(bytes, expected) === 0) return undefined;
    const { size } = dtypes[this.dtype];
    const element = Math.floor(bytes.findIndex((byte, i) => byte !== expected[i]) / size);
    const [is, wanted] = [bytes, expected].map((each) => each.slice(element * size, (element + 1) * size));
    return `element ${element} of ${bytes.length / size} ${comparison(is, wanted, this.dtype)}`;
  }

  #marginsOf(bytes: Uint8Array): readonly Uint8Array[] {
    return [bytes.subarray(0, this.#start), bytes.subarray(this.#end)];
  }
}

/** Two different elements, as values; as bytes if the values look the same, as for NaN. */
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
