import { type OptionNames, requireOptionNames } from "../collectives/option-names.ts";
import { requireFlag } from "../collectives/validate.ts";
import { currentContext } from "../distributed/dist-context.ts";
import { describe, describeNumber, InvalidArgumentError } from "../errors/index.ts";
import { ProcessGroup } from "../process-group/index.ts";
import { DEFAULT_BUCKET_BYTES, DEFAULT_FIRST_BUCKET_BYTES, type ReducerOptions } from "./reducer-options.ts";

const MiB = 2 ** 20;

/** Options of `DistributedDataParallel.create`; those that say so must be the same on all ranks. */
export interface DataParallelOptions {
  /** The ranks that train together; by default the default group. */
  readonly group?: ProcessGroup;
  /**
   * Whether buffers are copied from rank 0, at construction and in every iteration. Default is `true`. The same on all
   * ranks. c10d: `broadcast_buffers`.
   */
  readonly broadcastBuffers?: boolean;
  /**
   * Whether models are compared, and parameters and buffers copied from rank 0, at construction. Default is `true`. The
   * same on all ranks. c10d: `init_sync`.
   */
  readonly initSync?: boolean;
  /**
   * Size of buckets in MiB, also of the first one. By default 25, and 1 for the first. What rank 0 has counts.
   * c10d: `bucket_cap_mb`.
   */
  readonly bucketCapMb?: number;
  /**
   * Sizes of the first bucket, the second and so on, in MiB, from the first iteration on; in place of `bucketCapMb`. The
   * same on all ranks. c10d: `bucket_cap_mb_list`.
   */
  readonly bucketCapMbList?: readonly number[];
  /**
   * Whether some parameters may get no gradient in an iteration. Ranks then compare which were used: one that any rank has
   * used gets the average of all, with zeros from the others; one that none has used gets none. Costs a small all-reduce,
   * and buckets are not rebuilt. Default is `false`, where a missing gradient is an error. The same on all ranks. c10d:
   * `find_unused_parameters`.
   */
  readonly findUnusedParameters?: boolean;
  /**
   * Whether averages stay in the memory of the buckets, where `gradientBuffer()` also lets gradients be computed. Default is
   * `false`, where the tensors given as gradients get the averages. c10d: `gradient_as_bucket_view`.
   */
  readonly gradientAsBucketView?: boolean;
  /**
   * Whether every iteration uses the same parameters equally often; then parameters may be used several times or not at
   * all. The gradients of the first iteration are exchanged after its backward pass. Default is `false`. The same on all
   * ranks. c10d: `static_graph`.
   */
  readonly staticGraph?: boolean;
}

const optionNames: OptionNames<DataParallelOptions> = {
  group: true,
  broadcastBuffers: true,
  initSync: true,
  bucketCapMb: true,
  bucketCapMbList: true,
  findUnusedParameters: true,
  gradientAsBucketView: true,
  staticGraph: true,
};

/** Options as `DistributedDataParallel` uses them. */
export interface DataParallelSettings {
  readonly group: ProcessGroup;
  readonly broadcastBuffers: boolean;
  readonly initSync: boolean;
  readonly findUnusedParameters: boolean;
  readonly gradientAsBucketView: boolean;
  readonly staticGraph: boolean;
  /** Sizes in bytes of the buckets of the first iteration. */
  readonly firstLimits: readonly number[];
  /** Sizes of the buckets that the reducer makes after it. */
  readonly rebuilt: Pick<ReducerOptions, "bucketBytesCap" | "firstBucketBytesCap" | "bucketBytesCapList">;
}

const CALLER = "DistributedDataParallel.create()";

/** @throws InvalidArgumentError for unknown options and for values of the wrong kind. */
export function readDataParallelOptions(options: DataParallelOptions): DataParallelSettings {
  requireOptionNames(CALLER, options, optionNames);
  const flag = (name: keyof DataParallelOptions, byDefault: boolean) => {
    const given = options[name] as boolean | undefined;
    return given === undefined ? byDefault : requireFlag(CALLER, name, given);
  };
  const findUnusedParameters = flag("findUnusedParameters", false);
  const staticGraph = flag("staticGraph", false);
  return {
    group: groupOf(options.group),
    broadcastBuffers: flag("broadcastBuffers", true),
    initSync: flag("initSync", true),
    findUnusedParameters,
    gradientAsBucketView: flag("gradientAsBucketView", false),
    staticGraph,
    ...bucketSizes(options, staticGraph || !findUnusedParameters),
  };
}

/** @throws InvalidArgumentError unless it is a group that this rank is in; `undefined` stands for the default group. */
export function groupOf(group: ProcessGroup | null | undefined): ProcessGroup {
  if (group === undefined) return currentContext().require().group;
  if (group instanceof ProcessGroup) return group;
  const reason =
    group === null ? "this rank is not in the given group" : `group must be a ProcessGroup, got ${describe(group)}`;
  throw new InvalidArgumentError(`${CALLER}: ${reason}`, { argument: "group" });
}

/** @param startsWithOne Whether there is one bucket until the order is known in which gradients come. */
function bucketSizes(
  { bucketCapMb, bucketCapMbList }: DataParallelOptions,
  startsWithOne: boolean,
): Pick<DataParallelSettings, "firstLimits" | "rebuilt"> {
  if (bucketCapMbList !== undefined) {
    if (bucketCapMb !== undefined) {
      refuse("bucketCapMbList", "give bucketCapMb for buckets of one size or bucketCapMbList for several, not both");
    }
    if (!Array.isArray(bucketCapMbList) || bucketCapMbList.length === 0) {
      refuse("bucketCapMbList", `bucketCapMbList must be a list of sizes in MiB, got ${describe(bucketCapMbList)}`);
    }
    const limits = bucketCapMbList.map((mb) => bytesOf("bucketCapMbList", mb));
    return { firstLimits: limits, rebuilt: { bucketBytesCapList: limits } };
  }
  const bytes = bucketCapMb === undefined ? DEFAULT_BUCKET_BYTES : bytesOf("bucketCapMb", bucketCapMb);
  const firstBytes = bucketCapMb === undefined ? DEFAULT_FIRST_BUCKET_BYTES : bytes;
  const rebuilt = { bucketBytesCap: bytes, firstBucketBytesCap: firstBytes };
  // Other collectives of the pass could get between those of several buckets.
  if (startsWithOne) return { firstLimits: [Number.MAX_SAFE_INTEGER], rebuilt };
  return { firstLimits: firstBytes < bytes ? [firstBytes, bytes] : [bytes], rebuilt };
}

function bytesOf(argument: string, mb: number): number {
  const bytes = Math.floor(Number(mb) * MiB);
  if (typeof mb === "number" && bytes >= 1) return bytes;
  return refuse(argument, `the size of a bucket is a number of MiB of at least 1 byte, got ${describeNumber(mb)}`);
}

function refuse(argument: string, reason: string): never {
  throw new InvalidArgumentError(`${CALLER}: ${reason}`, { argument });
}
