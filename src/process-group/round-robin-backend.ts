import { OpType } from "../collectives/index.ts";
import {
  type AllToAllOptions,
  Backend,
  type MessageOptions,
  type OpOptions,
  type ReduceOptions,
  type ReduceToRootOptions,
  type RootOptions,
} from "../registry/index.ts";
import type { SparseTensor, TensorView } from "../tensor/index.ts";
import { AllOf, type GroupState, type Work } from "../work/index.ts";
import { abortAll, throwFirst } from "./group-lifecycle.ts";

/**
 * Gives collectives to several backends of the same ranks in turn, so that they overlap on separate connections.
 * Messages all take the first one, since their tags have to meet; a barrier is one on all of them.
 */
export class RoundRobinBackend extends Backend {
  override readonly name = "round_robin";
  readonly #backends: readonly Backend[];
  readonly #first: Backend;
  #turn = 0;

  constructor(first: Backend, others: readonly Backend[]) {
    super(first.rank, first.size);
    this.#first = first;
    this.#backends = [first, ...others];
  }

  override get state(): GroupState {
    return this.#backends.find((backend) => backend.state !== "OPEN")?.state ?? "OPEN";
  }

  override get inFlight(): number {
    return this.#backends.reduce((sum, backend) => sum + backend.inFlight, 0);
  }

  #next(): Backend {
    const backend = this.#backends[this.#turn % this.#backends.length] ?? this.#first;
    this.#turn++;
    return backend;
  }

  override skipTurn(): void {
    this.#next().skipTurn();
  }

  override allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    return this.#next().allReduce(tensor, options);
  }

  override allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    return this.#next().allReduceCoalesced(tensors, options);
  }

  override allReduceSparse(tensor: SparseTensor, options: OpOptions): Work<unknown> {
    return this.#next().allReduceSparse(tensor, options);
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    return this.#next().broadcast(tensor, options);
  }

  override reduce(tensor: TensorView, options: ReduceToRootOptions): Work<unknown> {
    return this.#next().reduce(tensor, options);
  }

  override allGather(outputs: readonly TensorView[], input: TensorView, options: OpOptions): Work<unknown> {
    return this.#next().allGather(outputs, input, options);
  }

  override allGatherIntoTensor(output: TensorView, input: TensorView, options: OpOptions): Work<unknown> {
    return this.#next().allGatherIntoTensor(output, input, options);
  }

  override allGatherIntoTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: OpOptions,
  ): Work<unknown> {
    return this.#next().allGatherIntoTensorCoalesced(outputs, inputs, options);
  }

  override gather(outputs: readonly TensorView[], input: TensorView, options: RootOptions): Work<unknown> {
    return this.#next().gather(outputs, input, options);
  }

  override scatter(output: TensorView, inputs: readonly TensorView[], options: RootOptions): Work<unknown> {
    return this.#next().scatter(output, inputs, options);
  }

  override reduceScatter(output: TensorView, inputs: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    return this.#next().reduceScatter(output, inputs, options);
  }

  override reduceScatterTensor(output: TensorView, input: TensorView, options: ReduceOptions): Work<unknown> {
    return this.#next().reduceScatterTensor(output, input, options);
  }

  override reduceScatterTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: ReduceOptions,
  ): Work<unknown> {
    return this.#next().reduceScatterTensorCoalesced(outputs, inputs, options);
  }

  override allToAll(outputs: readonly TensorView[], inputs: readonly TensorView[], options: OpOptions): Work<unknown> {
    return this.#next().allToAll(outputs, inputs, options);
  }

  override allToAllSingle(output: TensorView, input: TensorView, options: AllToAllOptions): Work<unknown> {
    return this.#next().allToAllSingle(output, input, options);
  }

  override send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.#first.send(tensor, options);
  }

  override recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.#first.recv(tensor, options);
  }

  override barrier(options: OpOptions): Work<unknown> {
    return new AllOf(
      this.#backends.map((backend) => backend.barrier(options)),
      undefined,
      { opType: OpType.BARRIER, ...(options.owner && { owner: options.owner }) },
    );
  }

  override abort(reason: string): void {
    abortAll(this.#backends, reason);
  }

  override async drained(): Promise<void> {
    throwFirst(await Promise.allSettled(this.#backends.map(async (backend) => backend.drained())));
  }

  // close() leaves the backends to the groups that they belong to.
}
