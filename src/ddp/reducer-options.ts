import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { environmentFlag } from "../environment/index.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import type { Parameter } from "./parameter.ts";

const MiB = 2 ** 20;

/** Size of buckets in bytes. c10d: `_DEFAULT_BUCKET_CAP_MB`. */
export const DEFAULT_BUCKET_BYTES: number = 25 * MiB;
/** Size of the first bucket in bytes. c10d: `_DEFAULT_FIRST_BUCKET_BYTES`. */
export const DEFAULT_FIRST_BUCKET_BYTES: number = MiB;

/** Options of a `Reducer`; all are optional. */
export interface ReducerOptions {
  /** For each parameter, whether its gradients are sparse. By default what the parameters say. */
  readonly expectSparseGradients?: readonly boolean[];
  /** Size of buckets in bytes when they are rebuilt. 25 MiB by default. */
  readonly bucketBytesCap?: number;
  /** Size of the first of them. 1 MiB by default, so that the exchange begins early. */
  readonly firstBucketBytesCap?: number;
  /** Sizes of the first bucket, the second and so on, in place of those two. */
  readonly bucketBytesCapList?: readonly number[];
  /**
   * Whether some parameters may get no gradient in an iteration. Ranks then compare which were used: one that any rank
   * has used gets the average of all, with zeros from the others; one that none has used keeps its gradient. Costs an
   * all-reduce, and buckets are not rebuilt. Default is `false`, where a missing gradient is an error.
   */
  readonly findUnusedParameters?: boolean;
  /**
   * Whether gradients become parts of the buckets, so that averages are not copied out of them. Default is `false`, where
   * the tensors given as gradients get the averages.
   */
  readonly gradientAsBucketView?: boolean;
  /** Names of parameters by index, for messages. By default those of the parameters. */
  readonly paramToNameMapping?: Readonly<Record<number, string>>;
}

const optionNames: OptionNames<ReducerOptions> = {
  expectSparseGradients: true,
  bucketBytesCap: true,
  firstBucketBytesCap: true,
  bucketBytesCapList: true,
  findUnusedParameters: true,
  gradientAsBucketView: true,
  paramToNameMapping: true,
};

/** Options as the reducer uses them. */
export interface ReducerSettings {
  readonly expectSparseGradients: readonly boolean[];
  readonly rebuildLimits: readonly number[];
  readonly bucketBytesCap: number;
  readonly findUnusedParameters: boolean;
  readonly gradientAsBucketView: boolean;
  readonly names: readonly string[];
  /** Whether the last bucket is to be the small one. */
  readonly smallLastBucket: boolean;
}

/** @throws InvalidArgumentError for options of the wrong kind. */
export function readReducerOptions(options: ReducerOptions, parameters: readonly Parameter[]): ReducerSettings {
  requireOptionNames("Reducer", options, optionNames);
  const {
    expectSparseGradients = parameters.map(({ sparse }) => sparse),
    bucketBytesCap = DEFAULT_BUCKET_BYTES,
    firstBucketBytesCap = DEFAULT_FIRST_BUCKET_BYTES,
    bucketBytesCapList,
    findUnusedParameters = false,
    gradientAsBucketView = false,
    paramToNameMapping = {},
  } = options;
  if (expectSparseGradients.length !== 0 && expectSparseGradients.length !== parameters.length) {
    throw new InvalidArgumentError(
      `expectSparseGradients must have one entry for each of ${parameters.length} parameters, got ${describe(expectSparseGradients)}`,
      { argument: "expectSparseGradients" },
    );
  }
  const rebuildLimits = bucketBytesCapList ?? [firstBucketBytesCap, bucketBytesCap];
  const wrong = [...rebuildLimits, bucketBytesCap].find((bytes) => typeof bytes !== "number" || !(bytes >= 1));
  if (wrong !== undefined || rebuildLimits.length === 0) {
    throw new InvalidArgumentError(`the size of a bucket is a number of bytes from 1 on, got ${describe(wrong)}`, {
      argument: "bucketBytesCap",
    });
  }
  return {
    expectSparseGradients,
    rebuildLimits,
    bucketBytesCap: bucketBytesCapList === undefined ? bucketBytesCap : Math.max(...bucketBytesCapList),
    findUnusedParameters,
    gradientAsBucketView,
    names: parameters.map(({ name }, index) => paramToNameMapping[index] ?? name),
    smallLastBucket: environmentFlag("DDP_SET_LAST_BUCKET_CAP"),
  };
}
