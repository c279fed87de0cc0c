import { InvalidArgumentError } from "../errors/index.ts";
import type { DType } from "../tensor/index.ts";
import { Bucket } from "./bucket.ts";
import type { CopyStreams } from "./memory/copy-stream.ts";
import type { Parameter } from "./parameter.ts";
import type { ReducerSettings } from "./reducer-options.ts";

/** Where the gradient of a parameter is. */
export interface Place {
  readonly bucket: Bucket;
  /** Number among the bucket's parameters. */
  readonly place: number;
}

/** The buckets of a reducer: which hold each parameter once. */
export class BucketTable {
  readonly #parameters: readonly Parameter[];
  readonly #settings: ReducerSettings;
  readonly #streams: CopyStreams;
  #buckets: readonly Bucket[] = [];
  #places: readonly Place[] = [];

  constructor(parameters: readonly Parameter[], settings: ReducerSettings, streams: CopyStreams) {
    this.#parameters = parameters;
    this.#streams = streams;
    this.#settings = settings;
  }

  /** In the order in which they are exchanged. */
  get all(): readonly Bucket[] {
    return this.#buckets;
  }

  /** For each bucket, the indices of its parameters. */
  get indices(): readonly (readonly number[])[] {
    return this.#buckets.map(({ members }) => members);
  }

  /** Where the gradient of a parameter is, whose index has been checked. */
  placeOf(index: number): Place {
    return this.#places[index] as Place;
  }

  /**
   * Makes new buckets. Gradients that are part of the old ones become part of the new ones.
   *
   * @param dtype In which gradients are exchanged, if not that of the parameters.
   * @throws InvalidArgumentError for buckets that do not hold each parameter once, or that mix dtypes.
   */
  assign(indices: readonly (readonly number[])[], dtype: DType | undefined): void {
    for (const { device } of this.#parameters) this.#streams.of(device);
    // Whoever computes in the memory of a bucket does so after this.
    const end = this.#streams.follow();
    const buckets = indices.map((members, index) => this.#make(index, members, dtype));
    const places: (Place | undefined)[] = this.#parameters.map(() => undefined);
    for (const bucket of buckets) {
      for (const [place, index] of bucket.members.entries()) {
        if (places[index] !== undefined) refuse(`parameter ${this.#parameters[index]?.name} is in two buckets`);
        places[index] = { bucket, place };
      }
    }
    const missing = this.#parameters.filter((_, index) => places[index] === undefined);
    if (missing.length > 0) refuse(`no bucket has ${missing.map(({ name }) => name).join(", ")}`);
    const before = this.#buckets;
    this.#buckets = buckets;
    this.#places = places as Place[];
    if (this.#settings.gradientAsBucketView && before.length > 0) this.#moveGradients();
    for (const each of before) each[Symbol.dispose]();
    end();
  }

  #make(index: number, members: readonly number[], dtype: DType | undefined): Bucket {
    const parameters = members.map((each) => {
      const parameter = this.#parameters[each];
      if (parameter !== undefined) return parameter;
      return refuse(
        `Out of range variable index. There are parameters 0 to ${this.#parameters.length - 1}, bucket ${index} has ${each}`,
      );
    });
    const sparse = members.some((each) => this.#settings.expectSparseGradients[each] === true);
    return new Bucket({ index, members: [...members], parameters, sparse, dtype, streams: this.#streams });
  }

  #moveGradients(): void {
    for (const [index, parameter] of this.#parameters.entries()) {
      const { bucket, place } = this.placeOf(index);
      if (parameter.grad === undefined || bucket.sparse) continue;
      bucket.fill(place, 1);
      parameter.grad = bucket.viewOf(place);
    }
  }
}

function refuse(reason: string): never {
  throw new InvalidArgumentError(reason, { argument: "bucketIndices" });
}
