import { InvalidArgumentError } from "../../errors/index.ts";
import type { TensorLike } from "../../tensor/index.ts";
import { addElements } from "../elements.ts";
import type { GradBucket } from "../grad-bucket.ts";
import { ExchangedFloats, type RealDType } from "./exchanged-floats.ts";
import { type Floats, Scratch } from "./low-rank-products.ts";

/** What PowerSGD keeps of a bucket. */
export interface MemorySizes {
  /** Elements whose error is kept. */
  readonly length: number;
  /** Shapes of the tensors in which all P, and all Q, are exchanged. */
  readonly p: readonly number[];
  readonly q: readonly number[];
  /** Elements that are exchanged as they are. */
  readonly plain: number;
}

/** What is saved of a bucket. */
export interface SavedBucket {
  /** Of its parameters, in their order. */
  readonly names: readonly string[];
  readonly dtype: RealDType;
  /** With error feedback: what the compression of the last iteration left out. */
  readonly error?: Floats;
  /** With warm start: the matrices Q of the last iteration. */
  readonly q?: Floats;
}

/** Memory for the compression of a bucket. */
export class PowerSGDMemory {
  readonly dtype: RealDType;
  readonly names: readonly string[];
  readonly p: ExchangedFloats;
  readonly q: ExchangedFloats;
  readonly plain: ExchangedFloats;
  readonly scratch = new Scratch();
  /** Whether {@link q} holds the matrices of an iteration before. */
  hasQ = false;
  readonly #sizes: MemorySizes;
  readonly #error: ExchangedFloats | undefined;
  #input: { readonly tensor: TensorLike; readonly floats: ExchangedFloats } | undefined;

  constructor(bucket: GradBucket, dtype: RealDType, sizes: MemorySizes, feedsBack: boolean) {
    this.dtype = dtype;
    this.names = namesOf(bucket);
    this.#sizes = sizes;
    this.p = ExchangedFloats.make(dtype, ...sizes.p);
    this.q = ExchangedFloats.make(dtype, ...sizes.q);
    this.plain = ExchangedFloats.make(dtype, sizes.plain);
    this.#error = feedsBack ? ExchangedFloats.make(dtype, sizes.length) : undefined;
  }

  fits(bucket: GradBucket, { length, p, q, plain }: MemorySizes): boolean {
    const own = this.#sizes;
    return (
      bucket.dtype === this.dtype &&
      isSame(namesOf(bucket), this.names) &&
      length === own.length &&
      plain === own.plain &&
      isSame(p, own.p) &&
      isSame(q, own.q)
    );
  }

  /** The elements of a bucket, or of other memory of the same length. */
  inputOf(tensor: TensorLike): ExchangedFloats {
    if (this.#input?.tensor !== tensor) this.#input = { tensor, floats: new ExchangedFloats(tensor) };
    this.#input.floats.load();
    return this.#input.floats;
  }

  /** Adds the error of the last iteration, and keeps a copy from which {@link keepError} computes that of this one. */
  addError(input: ExchangedFloats): void {
    if (this.#error === undefined) return;
    addElements(input.values, this.#error.values, this.#computedIn);
    input.round();
    this.#error.values.set(input.values);
  }

  /** Keeps what compression has taken away. */
  keepError(result: ExchangedFloats): void {
    if (this.#error === undefined) return;
    const [errors, values] = [this.#error.values, result.values];
    for (let i = 0; i < errors.length; i++) errors[i] = (errors[i] as number) - (values[i] as number);
    this.#error.round();
  }

  save(): SavedBucket {
    return {
      names: this.names,
      dtype: this.dtype,
      ...(this.#error !== undefined && { error: copyOf(this.#error) }),
      ...(this.hasQ && { q: copyOf(this.q) }),
    };
  }

  /** @throws InvalidArgumentError for what was saved of another bucket. */
  restore({ names, dtype, error, q }: SavedBucket, bucket: GradBucket): void {
    const wrong = (saved: Floats | undefined, own: ExchangedFloats | undefined) =>
      saved !== undefined && own !== undefined && saved.length !== own.length;
    if (dtype !== this.dtype || !isSame(names, this.names) || wrong(error, this.#error) || wrong(q, this.q)) {
      throw changedError(bucket);
    }
    if (error !== undefined) this.#error?.values.set(error);
    if (q === undefined) return;
    this.q.values.set(q);
    this.hasQ = true;
  }

  get #computedIn(): "float32" | "float64" | "float16" {
    return this.dtype === "bfloat16" ? "float32" : this.dtype;
  }
}

export function changedError(bucket: GradBucket): InvalidArgumentError {
  return new InvalidArgumentError(
    `PowerSGD: bucket ${bucket.index()} has other parameters than when its error or its matrices were kept; make a new PowerSGDState when buckets change`,
    { code: "BUCKETS_CHANGED", argument: "state" },
  );
}

function namesOf(bucket: GradBucket): string[] {
  return bucket.parameters().map(({ name }) => name);
}

function isSame<T>(list: readonly T[], other: readonly T[]): boolean {
  return list.length === other.length && list.every((each, i) => each === other[i]);
}

function copyOf({ values }: ExchangedFloats): Floats {
  // Not slice(), which would copy into shared memory of the same kind.
  const Kind = values.constructor as new (length: number) => Floats;
  const copy = new Kind(values.length);
  copy.set(values);
  return copy;
}
