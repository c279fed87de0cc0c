import type { ReduceOp } from "../../collectives/index.ts";
import type { Stream, TensorLike } from "../../tensor/index.ts";
import type { Timeout } from "../../time/index.ts";

/** Options of every op. */
export interface CallOptions {
  /** Time-out of the op; the group's by default. When it expires, the op fails, and the group with it. */
  readonly timeout?: Timeout;
  /**
   * For tensors on a device: the op starts after what is in this stream now. The current stream of the device by default.
   */
  readonly stream?: Stream;
}

interface ReducingOptions {
  /** SUM by default. */
  readonly op?: ReduceOp;
}

/** Names the source rank of an op. Exactly one of the two must be given. */
interface SourceOptions {
  /** Global rank. */
  readonly src?: number;
  /** Rank in the group. */
  readonly groupSrc?: number;
}

/** Names the destination rank of an op. Exactly one of the two must be given. */
interface DestinationOptions {
  /** Global rank. */
  readonly dst?: number;
  /** Rank in the group. */
  readonly groupDst?: number;
}

interface TagOptions {
  /** 0 by default. A recv only matches messages with its tag. */
  readonly tag?: number;
}

/** Options of `allReduce`. c10d: `AllreduceOptions`. */
export interface AllReduceOptions extends CallOptions, ReducingOptions {}
/** Options of `broadcast`; `src` or `groupSrc` is required. c10d: `BroadcastOptions`. */
export interface BroadcastOptions extends CallOptions, SourceOptions {}
/** Options of `reduce`; `dst` or `groupDst` is required. c10d: `ReduceOptions`. */
export interface ReduceToOptions extends CallOptions, ReducingOptions, DestinationOptions {}
/** Options of `allGather` and `allGatherIntoTensor`. c10d: `AllgatherOptions`. */
export type AllGatherOptions = CallOptions;
/** Options of `gather`; `dst` or `groupDst` is required. c10d: `GatherOptions`. */
export interface GatherOptions extends CallOptions, DestinationOptions {
  /** On the destination only: one tensor per rank. */
  readonly outputs?: readonly TensorLike[];
}
/** Options of `gatherSingle`; `dst` or `groupDst` is required. */
export interface GatherSingleOptions extends CallOptions, DestinationOptions {}
/** Options of `scatter`; `src` or `groupSrc` is required. c10d: `ScatterOptions`. */
export interface ScatterOptions extends CallOptions, SourceOptions {
  /** On the source only: one tensor per rank. */
  readonly inputs?: readonly TensorLike[];
}
/** Options of `reduceScatter` and `reduceScatterTensor`. c10d: `ReduceScatterOptions`. */
export interface ReduceScatterOptions extends CallOptions, ReducingOptions {}
/** Options of `allToAll`. c10d: `AllToAllOptions`. */
export type AllToAllListOptions = CallOptions;
/** Options of `allToAllSingle`. c10d: `AllToAllOptions`. */
export interface AllToAllSingleOptions extends CallOptions {
  /** Rows (first dimension; elements of a TypedArray) of the input for each rank. Equal parts by default. */
  readonly inputSplits?: readonly number[];
  /** Rows of the output from each rank. Equal parts by default. */
  readonly outputSplits?: readonly number[];
}
/** Options of `send`; `dst` or `groupDst` is required. */
export interface SendOptions extends CallOptions, DestinationOptions, TagOptions {}
/** Options of `recv`. Without `src` and `groupSrc`, it receives from any rank. */
export interface RecvOptions extends CallOptions, SourceOptions, TagOptions {}
/** Options of `barrier`. c10d: `BarrierOptions`. */
export interface BarrierOptions extends CallOptions {
  /**
   * Index of the CUDA device that carries it out, as a list of one, for the backend of CUDA tensors. By default the
   * barrier is one of the group's backend for CPU tensors, if it has one. c10d: `device_ids`.
   */
  readonly deviceIds?: readonly number[];
}
/** Options of `monitoredBarrier`. */
export interface MonitoredBarrierCallOptions extends CallOptions {
  /** Whether rank 0 waits for all ranks and names all missing ones, not only the first. Default is `false`. */
  readonly waitAllRanks?: boolean;
}

/** Options of every object collective. */
export interface ObjectOptions extends Omit<CallOptions, "stream"> {
  /** Size limit of one encoded object in bytes, the same on all ranks. 64 MiB by default. */
  readonly maxBytes?: number;
}
/** Options of `allGatherObject`. */
export type AllGatherObjectOptions = ObjectOptions;
/** Options of `gatherObject`; `dst` or `groupDst` is required. */
export interface GatherObjectOptions extends ObjectOptions, DestinationOptions {}
/** Options of `broadcastObject`; `src` or `groupSrc` is required. */
export interface BroadcastObjectOptions extends ObjectOptions, SourceOptions {}
/** Options of `scatterObject`; `src` or `groupSrc` is required. */
export interface ScatterObjectOptions extends ObjectOptions, SourceOptions {}
/** Options of `sendObject`; `dst` or `groupDst` is required. */
export interface SendObjectOptions extends ObjectOptions, DestinationOptions, TagOptions {}
/** Options of `recvObject`. Without `src` and `groupSrc`, it receives from any rank. */
export interface RecvObjectOptions extends ObjectOptions, SourceOptions, TagOptions {}
