import { OpType, opNames } from "../collectives/op-type.ts";
import type { ReduceOp } from "../collectives/reduce-op.ts";
import { UnsupportedOperationError } from "../errors/index.ts";
import type { SparseTensor, TensorView } from "../tensor/index.ts";
import { type GroupState, Work, type WorkOwner } from "../work/index.ts";

/** What every op gets beside its tensors. */
export interface OpOptions {
  /** Limit of the op in milliseconds; Infinity for none. */
  readonly timeoutMs: number;
  /** To be given to the Work, so that the group hears of failures. */
  readonly owner?: WorkOwner;
}

/** What ops that reduce get beside their tensors. */
export interface ReduceOptions extends OpOptions {
  readonly op: ReduceOp;
}

/** What ops with a root get beside their tensors. */
export interface RootOptions extends OpOptions {
  /** Rank in the group. */
  readonly root: number;
}

/** What `reduce` gets beside its tensor. */
export interface ReduceToRootOptions extends ReduceOptions, RootOptions {}

/** What `allToAllSingle` gets beside its tensors. */
export interface AllToAllOptions extends OpOptions {
  /** Elements for each rank, or none for equal parts. Both lists are given or neither. */
  readonly inputSplits: readonly number[];
  readonly outputSplits: readonly number[];
}

/** What `send` and `recv` get beside their tensor. */
export interface MessageOptions extends OpOptions {
  /** Rank in the group; -1 for a recv from any. */
  readonly peer: number;
  readonly tag: number;
}

/** What `monitoredBarrier` gets. */
export interface MonitoredBarrierOptions extends OpOptions {
  /** Whether to name all missing ranks rather than the first. */
  readonly waitAllRanks: boolean;
}

/**
 * One group of ranks on one kind of device. Extend it and implement the ops you support; the rest reject with an
 * {@link UnsupportedOperationError}. Arguments were validated before and agree with the plugin's capability table;
 * ranks are ranks in the group.
 *
 * Ops return a {@link Work} and must not be `async` functions: an async function would unwrap it. In-place ops resolve
 * to `view.source`, the caller's own object.
 *
 * c10d: `Backend`.
 */
export abstract class Backend {
  /** Name of the plugin that made it. */
  abstract readonly name: string;
  readonly rank: number;
  readonly size: number;

  constructor(rank: number, size: number) {
    this.rank = rank;
    this.size = size;
  }

  /** OPEN until an op fails fatally. */
  get state(): GroupState {
    return "OPEN";
  }

  /** Number of ops in flight. */
  get inFlight(): number {
    return 0;
  }

  /**
   * Notes that the process group has refused a collective of this rank, of which the backend sees nothing. A backend that
   * compares the calls of the ranks counts it among them: ranks that have all refused the call stay in step, and one that did
   * so alone is found at the next collective. Does nothing by default.
   */
  skipTurn(): void {}

  /** Reduces the tensor over all ranks, in place on all. */
  allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    void tensor;
    return this.unsupported(OpType.ALLREDUCE, options);
  }

  /** Reduces each tensor of the list (same dtype) over all ranks, in place, as one op. */
  allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    void tensors;
    return this.unsupported(OpType.ALLREDUCE_COALESCED, options);
  }

  /**
   * Adds up the sparse tensors of all ranks; resolves to a new tensor with each index once. The ops of its steps must not
   * be mixed with later ones: the process group holds those back until this one has ended.
   */
  allReduceSparse(tensor: SparseTensor, options: OpOptions): Work<unknown> {
    void tensor;
    return this.unsupported(OpType.ALLREDUCE_SPARSE, options);
  }

  /** Copies the root's tensor to all ranks. */
  broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    void tensor;
    return this.unsupported(OpType.BROADCAST, options);
  }

  /** Reduces the tensor over all ranks into the root's; the others' contents are unspecified afterwards. */
  reduce(tensor: TensorView, options: ReduceToRootOptions): Work<unknown> {
    void tensor;
    return this.unsupported(OpType.REDUCE, options);
  }

  /** Copies each rank's input to `outputs[rank]` on all ranks. */
  allGather(outputs: readonly TensorView[], input: TensorView, options: OpOptions): Work<unknown> {
    void outputs;
    void input;
    return this.unsupported(OpType.ALLGATHER, options);
  }

  /** Copies each rank's input to part `rank` of the output on all ranks. */
  allGatherIntoTensor(output: TensorView, input: TensorView, options: OpOptions): Work<unknown> {
    void output;
    void input;
    return this.unsupported(OpType.ALLGATHER_BASE, options);
  }

  /** {@link allGatherIntoTensor} of each pair of the lists (same dtype), as one op. */
  allGatherIntoTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: OpOptions,
  ): Work<unknown> {
    void outputs;
    void inputs;
    return this.unsupported(OpType.ALLGATHER_COALESCED, options);
  }

  /** Copies each rank's input to `outputs[rank]` on the root; elsewhere `outputs` is empty. */
  gather(outputs: readonly TensorView[], input: TensorView, options: RootOptions): Work<unknown> {
    void outputs;
    void input;
    return this.unsupported(OpType.GATHER, options);
  }

  /** Copies the root's `inputs[rank]` to each rank's output; elsewhere `inputs` is empty. */
  scatter(output: TensorView, inputs: readonly TensorView[], options: RootOptions): Work<unknown> {
    void output;
    void inputs;
    return this.unsupported(OpType.SCATTER, options);
  }

  /** Reduces each `inputs[rank]` over all ranks into that rank's output. */
  reduceScatter(output: TensorView, inputs: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    void output;
    void inputs;
    return this.unsupported(OpType.REDUCE_SCATTER, options);
  }

  /** Reduces part `rank` of the inputs of all ranks into that rank's output. */
  reduceScatterTensor(output: TensorView, input: TensorView, options: ReduceOptions): Work<unknown> {
    void output;
    void input;
    return this.unsupported(OpType.REDUCE_SCATTER_BASE, options);
  }

  /** {@link reduceScatterTensor} of each pair of the lists (same dtype), as one op. */
  reduceScatterTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: ReduceOptions,
  ): Work<unknown> {
    void outputs;
    void inputs;
    return this.unsupported(OpType.REDUCE_SCATTER_TENSOR_COALESCED, options);
  }

  /** Copies `inputs[rank]` to that rank's `outputs[own rank]`. */
  allToAll(outputs: readonly TensorView[], inputs: readonly TensorView[], options: OpOptions): Work<unknown> {
    void outputs;
    void inputs;
    return this.unsupported(OpType.ALLTOALL, options);
  }

  /** The same with parts of one input and one output. */
  allToAllSingle(output: TensorView, input: TensorView, options: AllToAllOptions): Work<unknown> {
    void output;
    void input;
    return this.unsupported(OpType.ALLTOALL_BASE, options);
  }

  /** Sends the tensor to one rank, which must `recv` it with the same tag. */
  send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    void tensor;
    return this.unsupported(OpType.SEND, options);
  }

  /** Receives into the tensor; `sourceRank()` of the Work tells from which global rank. */
  recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    void tensor;
    return this.unsupported(options.peer < 0 ? OpType.RECV_ANY_SOURCE : OpType.RECV, options);
  }

  /** Completes when all ranks have come to it. */
  barrier(options: OpOptions): Work<unknown> {
    return this.unsupported(OpType.BARRIER, options);
  }

  /** A barrier whose time-out names the ranks that did not come. */
  monitoredBarrier(options: MonitoredBarrierOptions): Work<unknown> {
    return this.unsupported(OpType.BARRIER, options);
  }

  /** Fails what is in flight and the group with it; every waiter wakes at once. */
  abort(reason: string): void {
    void reason;
  }

  /** Resolves when nothing is in flight. */
  drained(): Promise<void> {
    return Promise.resolve();
  }

  /** Releases everything. Ops in flight are aborted; never waits for other ranks. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  /** A Work that rejects because this backend does not implement the op. */
  protected unsupported(opType: OpType, options: OpOptions): Work<unknown> {
    const op = opNames[opType];
    const error = new UnsupportedOperationError(`backend "${this.name}" does not implement ${op}`, {
      backend: this.name,
      op,
    });
    return Work.rejected(error, options.owner === undefined ? { opType } : { opType, owner: options.owner });
  }
}
