import { InvalidArgumentError } from "../../errors/index.ts";
import type { ProcessGroup } from "../../process-group/index.ts";
import { type DType, empty, Tensor, type TensorLike, type TensorStorage, viewTensor } from "../../tensor/index.ts";
import { copyElements } from "../elements.ts";
import type { GradBucket } from "../grad-bucket.ts";
import type { Floats } from "./low-rank-products.ts";

/** dtypes whose gradients can be computed with. */
export type RealDType = "float32" | "float64" | "float16" | "bfloat16";

const real: ReadonlySet<DType> = new Set<RealDType>(["float32", "float64", "float16", "bfloat16"]);

/** @throws InvalidArgumentError for a bucket that is sparse, or whose elements are complex. */
export function realDTypeOf(hook: string, bucket: GradBucket): RealDType {
  bucket.dense();
  const { dtype } = bucket;
  if (real.has(dtype)) return dtype as RealDType;
  throw new InvalidArgumentError(
    `${hook}: it takes gradients of float32, float64, float16 and bfloat16; bucket ${bucket.index()} is of ${dtype}`,
    { argument: "bucket" },
  );
}

/**
 * A tensor to compute with: of bfloat16, whose elements JavaScript has only as bits, the values are a copy in float32,
 * and else its own memory.
 */
export class ExchangedFloats {
  readonly values: Floats;
  readonly #tensor: TensorLike;
  readonly #bits: TensorStorage | undefined;

  /** New memory of `shape`, with zeros. */
  static make(dtype: RealDType, ...shape: readonly number[]): ExchangedFloats {
    const length = shape.reduce((product, size) => product * size, 1);
    const flat = empty(dtype, length);
    const data = flat instanceof Tensor ? flat.data : flat;
    return new ExchangedFloats(new Tensor(data, dtype, shape));
  }

  /** @param tensor A tensor of a {@link RealDType} in host memory. Its values are not read yet if it is of bfloat16. */
  constructor(tensor: TensorLike) {
    const { data, dtype } = viewTensor(tensor);
    this.#tensor = tensor;
    this.#bits = dtype === "bfloat16" ? data : undefined;
    this.values = this.#bits === undefined ? (data as Floats) : new Float32Array(this.#bits.length);
  }

  get length(): number {
    return this.values.length;
  }

  /** Takes over the elements of the tensor. */
  load(): void {
    if (this.#bits !== undefined) copyElements(this.values, "float32", this.#bits, "bfloat16");
  }

  /** Writes the values to the tensor, and rounds them as its dtype does. */
  round(): void {
    if (this.#bits === undefined) return;
    copyElements(this.#bits, "bfloat16", this.values, "float32");
    this.load();
  }

  /** Sums it over all ranks of a group. */
  async allReduce(group: ProcessGroup): Promise<void> {
    this.round();
    await group.allReduce(this.#tensor);
    this.load();
  }

  /** Divides all values, each rounded. */
  divide(divisor: number): void {
    const { values } = this;
    for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) / divisor;
    this.round();
  }
}
