import type { DType } from "../../src/tensor/index.ts";

/** A tensor of the model. */
export interface PlannedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Whether its gradients are sparse. */
  readonly sparse?: boolean;
}

/** One iteration: for each rank, the parameters that get gradients, in that order. */
export interface PlannedIteration {
  /** Whether it is outside `no_sync`. */
  readonly sync: boolean;
  readonly ready: readonly (readonly number[])[];
}

/** What every rank of a training job does; ddp-rank.ts and ddp_rank.py carry it out. */
export interface TrainingPlan {
  readonly options: {
    readonly bucketCapMb?: number;
    readonly findUnusedParameters?: boolean;
    readonly gradientAsBucketView?: boolean;
    readonly staticGraph?: boolean;
  };
  readonly builtinHook?: "ALLREDUCE" | "FP16_COMPRESS";
  readonly parameters: readonly PlannedTensor[];
  /** The parameters of rank 1, if they are to differ. */
  readonly otherParameters?: readonly PlannedTensor[];
  readonly buffers: readonly PlannedTensor[];
  readonly iterations: readonly PlannedIteration[];
  /** Uneven inputs: how many of the iterations each rank has. */
  readonly join?: {
    readonly counts: readonly number[];
    readonly divideByInitialWorldSize: boolean;
    readonly throwOnEarlyTermination: boolean;
  };
}

/** What a rank reports. Digests are of bytes; "none" stands for no gradient. */
export interface TrainingReport {
  readonly rank: number;
  readonly kind: "Bun" | "Python";
  /** After each synchronised iteration, the gradients in the order of the parameters. */
  readonly gradients: readonly (readonly number[] | "none")[][];
  /** After each iteration, the buffers. */
  readonly buffers: readonly (readonly number[])[][];
  /** At the end, the parameters. */
  readonly parameters: readonly (readonly number[])[];
  /** Entries of the logging data that both must agree on. */
  readonly logged: Readonly<Record<string, string | number>>;
  /** Message of the error that ended the training, if one did. */
  readonly error?: string;
}

/** Entries of the logging data that are the same on all ranks of a job, whatever they run in. */
export const loggedNames = [
  "bucket_sizes",
  "rebuilt_bucket_sizes",
  "rebuilt_per_bucket_param_indices",
  "has_rebuilt_buckets",
  "num_parameter_tensors",
  "total_parameter_size_bytes",
  "bucket_cap_bytes",
  "find_unused_parameters",
  "gradient_as_bucket_view",
  "broadcast_buffers",
  "dtypes",
  "iteration",
  "world_size",
] as const;

/** Element `i` of a gradient, a parameter (iteration -1) or a buffer (-2): eighths, of which sums are exact. */
export function plannedElement(rank: number, iteration: number, tensor: number, i: number): number {
  return (((rank * 7 + (iteration + 2) * 5 + tensor * 3 + i * 11) % 17) - 8) / 8;
}
