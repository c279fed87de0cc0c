import type { ReduceOp } from "../collectives/index.ts";
import type { Timeout } from "../errors/index.ts";
import type { TensorLike } from "../tensor/index.ts";

/** What every op takes. */
export interface CallOptions {
  /** Limit of the op; the group's by default. When it runs out the op fails, and the group with it. */
  readonly timeout?: Timeout;
}

interface ReducingOptions {
  /** SUM by default. */
  readonly op?: ReduceOp;
}

/** Names the rank that an op comes from. Exactly one of the two is given. */
interface SourceOptions {
  /** Global rank. */
  readonly src?: number;
  /** Rank in the group. */
  readonly groupSrc?: number;
}

/** Names the rank that an op goes to. Exactly one of the two is given. */
interface DestinationOptions {
  /** Global rank. */
  readonly dst?: number;
  /** Rank in the group. */
  readonly groupDst?: number;
}

interface TagOptions {
  /** 0 by default. A recv takes only messages of its tag. */
  readonly tag?: number;
}

export interface AllReduceOptions extends CallOptions, ReducingOptions {}
export interface BroadcastOptions extends CallOptions, SourceOptions {}
export interface ReduceToOptions extends CallOptions, ReducingOptions, DestinationOptions {}
export type AllGatherOptions = CallOptions;
export interface GatherOptions extends CallOptions, DestinationOptions {
  /** On the destination only: one tensor per rank. */
  readonly outputs?: readonly TensorLike[];
}
export interface ScatterOptions extends CallOptions, SourceOptions {
  /** On the source only: one tensor per rank. */
  readonly inputs?: readonly TensorLike[];
}
export interface ReduceScatterOptions extends CallOptions, ReducingOptions {}
export type AllToAllListOptions = CallOptions;
export interface AllToAllSingleOptions extends CallOptions {
  /** Rows (first dimension; elements of a TypedArray) of the input for each rank. Equal parts by default. */
  readonly inputSplits?: readonly number[];
  /** Rows of the output from each rank. Equal parts by default. */
  readonly outputSplits?: readonly number[];
}
export interface SendOptions extends CallOptions, DestinationOptions, TagOptions {}
/** Without `src` and `groupSrc`, a recv takes a message from any rank. */
export interface RecvOptions extends CallOptions, SourceOptions, TagOptions {}
export type BarrierOptions = CallOptions;
export interface MonitoredBarrierCallOptions extends CallOptions {
  /** Whether rank 0 waits for all ranks and names all that are missing, rather than the first. Default is `false`. */
  readonly waitAllRanks?: boolean;
}

/** What every object collective takes. */
export interface ObjectOptions extends CallOptions {
  /** Limit of one encoded object in bytes, alike on all ranks. 64 MiB by default. */
  readonly maxBytes?: number;
}
export type AllGatherObjectOptions = ObjectOptions;
export interface GatherObjectOptions extends ObjectOptions, DestinationOptions {}
export interface BroadcastObjectOptions extends ObjectOptions, SourceOptions {}
export interface ScatterObjectOptions extends ObjectOptions, SourceOptions {}
export interface SendObjectOptions extends ObjectOptions, DestinationOptions, TagOptions {}
/** Without `src` and `groupSrc`, an object from any rank is taken. */
export interface RecvObjectOptions extends ObjectOptions, SourceOptions, TagOptions {}
