import { type MemoryUse, OpType, opNames, type ReduceOp } from "../collectives/index.ts";
import { type DistError, InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import {
  type AllToAllOptions,
  Backend,
  type MessageOptions,
  type MonitoredBarrierOptions,
  type OpOptions,
  type ReduceOptions,
  type ReduceToRootOptions,
  type RootOptions,
} from "../registry/index.ts";
import type { TensorView } from "../tensor/index.ts";
import { type GroupState, joinWhole, outcomeOf, Work, type WorkOwner } from "../work/index.ts";

/** Ops that become one when they follow each other. */
export type MergeableOp = "allReduce" | "allGatherIntoTensor" | "reduceScatterTensor";

/** What a mergeable op was called with. */
export interface Mergeable {
  readonly op: MergeableOp;
  /** None for an all-reduce. */
  readonly output: TensorView | undefined;
  readonly input: TensorView;
  readonly reduceOp: ReduceOp | undefined;
}

/** An op that was recorded rather than submitted. */
export interface RecordedOp {
  readonly backend: Backend;
  readonly timeoutMs: number;
  readonly work: RecordedWork;
  readonly start: () => Work<unknown>;
  readonly memory: MemoryUse;
  readonly mergeable?: Mergeable;
}

/** Stands for an op that is submitted later. */
export class RecordedWork extends Work<unknown> {
  #actual: Work<unknown> | undefined;
  /** Its own part of what `actual` resolves to, or all of it. */
  #result: unknown;

  /** Ends as `actual` does, with a result of its own if there is one. */
  follow(actual: Work<unknown>, result?: unknown): void {
    this.#actual = actual;
    this.#result = result;
    joinWhole(actual, this);
    outcomeOf(actual).then(
      (value) => this.#succeed(value),
      (error: unknown) => this.settle(error as DistError),
    );
  }

  #succeed(value: unknown): void {
    this.#result ??= value;
    this.settle();
  }

  protected override block(limitMs: number): void {
    if (this.#actual === undefined) {
      throw new InvalidArgumentError(
        `${this.describe()} is not submitted before the function given to coalescing() returns; wait for the Work of coalescing()`,
        { code: "NOT_SUBMITTED" },
      );
    }
    try {
      this.#actual.wait(Number.isFinite(limitMs) ? { timeout: limitMs } : {});
    } catch (error) {
      if (!this.#actual.isCompleted()) throw error;
      this.settle(error as DistError);
      return;
    }
    this.#succeed(this.#actual.result());
  }

  protected override value(): unknown {
    return this.#result;
  }

  override sourceRank(): number {
    return this.#actual?.sourceRank() ?? super.sourceRank();
  }

  override abort(): void {
    if (this.#actual === undefined) throw new UnsupportedOperationError(`${this.describe()} has not been submitted`);
    this.#actual.abort();
  }
}

/** Takes the place of a backend while ops are coalesced, and notes them in the order of the calls. */
export class OpRecorder extends Backend {
  override readonly name: string;
  readonly #backend: Backend;
  readonly #ops: RecordedOp[];

  constructor(backend: Backend, ops: RecordedOp[]) {
    super(backend.rank, backend.size);
    this.name = backend.name;
    this.#backend = backend;
    this.#ops = ops;
  }

  override get state(): GroupState {
    return this.#backend.state;
  }

  #record(
    opType: OpType,
    { timeoutMs, owner }: OpOptions,
    start: (backend: Backend) => Work<unknown>,
    written: readonly TensorView[],
    read: readonly TensorView[] = [],
    mergeable?: Mergeable,
  ): Work<unknown> {
    const backend = this.#backend;
    const work = new RecordedWork(owned(opType, owner));
    const memory = { op: opNames[opType], written, read };
    this.#ops.push({ backend, timeoutMs, work, memory, start: () => start(backend), ...(mergeable && { mergeable }) });
    return work;
  }

  override allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    return this.#record(OpType.ALLREDUCE, options, (backend) => backend.allReduce(tensor, options), [tensor], [], {
      op: "allReduce",
      output: undefined,
      input: tensor,
      reduceOp: options.op,
    });
  }

  override allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    return this.#record(
      OpType.ALLREDUCE_COALESCED,
      options,
      (backend) => backend.allReduceCoalesced(tensors, options),
      tensors,
    );
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    return this.#record(OpType.BROADCAST, options, (backend) => backend.broadcast(tensor, options), [tensor]);
  }

  override reduce(tensor: TensorView, options: ReduceToRootOptions): Work<unknown> {
    return this.#record(OpType.REDUCE, options, (backend) => backend.reduce(tensor, options), [tensor]);
  }

  override allGather(outputs: readonly TensorView[], input: TensorView, options: OpOptions): Work<unknown> {
    return this.#record(OpType.ALLGATHER, options, (backend) => backend.allGather(outputs, input, options), outputs, [
      input,
    ]);
  }

  override allGatherIntoTensor(output: TensorView, input: TensorView, options: OpOptions): Work<unknown> {
    const start = (backend: Backend) => backend.allGatherIntoTensor(output, input, options);
    return this.#record(OpType.ALLGATHER_BASE, options, start, [output], [input], {
      op: "allGatherIntoTensor",
      output,
      input,
      reduceOp: undefined,
    });
  }

  override allGatherIntoTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: OpOptions,
  ): Work<unknown> {
    const start = (backend: Backend) => backend.allGatherIntoTensorCoalesced(outputs, inputs, options);
    return this.#record(OpType.ALLGATHER_COALESCED, options, start, outputs, inputs);
  }

  override gather(outputs: readonly TensorView[], input: TensorView, options: RootOptions): Work<unknown> {
    return this.#record(OpType.GATHER, options, (backend) => backend.gather(outputs, input, options), outputs, [input]);
  }

  override scatter(output: TensorView, inputs: readonly TensorView[], options: RootOptions): Work<unknown> {
    return this.#record(
      OpType.SCATTER,
      options,
      (backend) => backend.scatter(output, inputs, options),
      [output],
      inputs,
    );
  }

  override reduceScatter(output: TensorView, inputs: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    return this.#record(
      OpType.REDUCE_SCATTER,
      options,
      (backend) => backend.reduceScatter(output, inputs, options),
      [output],
      inputs,
    );
  }

  override reduceScatterTensor(output: TensorView, input: TensorView, options: ReduceOptions): Work<unknown> {
    const start = (backend: Backend) => backend.reduceScatterTensor(output, input, options);
    return this.#record(OpType.REDUCE_SCATTER_BASE, options, start, [output], [input], {
      op: "reduceScatterTensor",
      output,
      input,
      reduceOp: options.op,
    });
  }

  override reduceScatterTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: ReduceOptions,
  ): Work<unknown> {
    const start = (backend: Backend) => backend.reduceScatterTensorCoalesced(outputs, inputs, options);
    return this.#record(OpType.REDUCE_SCATTER_TENSOR_COALESCED, options, start, outputs, inputs);
  }

  override allToAll(outputs: readonly TensorView[], inputs: readonly TensorView[], options: OpOptions): Work<unknown> {
    return this.#record(
      OpType.ALLTOALL,
      options,
      (backend) => backend.allToAll(outputs, inputs, options),
      outputs,
      inputs,
    );
  }

  override allToAllSingle(output: TensorView, input: TensorView, options: AllToAllOptions): Work<unknown> {
    return this.#record(
      OpType.ALLTOALL_BASE,
      options,
      (backend) => backend.allToAllSingle(output, input, options),
      [output],
      [input],
    );
  }

  override send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.#record(OpType.SEND, options, (backend) => backend.send(tensor, options), [], [tensor]);
  }

  override recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    const opType = options.peer < 0 ? OpType.RECV_ANY_SOURCE : OpType.RECV;
    return this.#record(opType, options, (backend) => backend.recv(tensor, options), [tensor]);
  }

  override barrier(options: OpOptions): Work<unknown> {
    return this.#record(OpType.BARRIER, options, (backend) => backend.barrier(options), []);
  }

  override monitoredBarrier(options: MonitoredBarrierOptions): Work<unknown> {
    return this.#record(OpType.BARRIER, options, (backend) => backend.monitoredBarrier(options), []);
  }
}

function owned(opType: OpType, owner: WorkOwner | undefined): { opType: OpType; owner?: WorkOwner } {
  return owner === undefined ? { opType } : { opType, owner };
}
