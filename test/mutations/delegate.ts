import {
  type AllToAllOptions,
  Backend,
  type GroupState,
  type MessageOptions,
  type MonitoredBarrierOptions,
  type OpOptions,
  type ReduceOptions,
  type RootOptions,
  type SparseTensor,
  type TensorView,
  type Work,
} from "bun-c10d";

type ReduceToRootOptions = ReduceOptions & RootOptions;

/** A backend that passes everything on to another one; a mutation overrides a part of it. */
export class Delegate extends Backend {
  override readonly name = "fake";

  constructor(protected readonly inner: Backend) {
    super(inner.rank, inner.size);
  }

  override get state(): GroupState {
    return this.inner.state;
  }

  override get inFlight(): number {
    return this.inner.inFlight;
  }

  override allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    return this.inner.allReduce(tensor, options);
  }

  override allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    return this.inner.allReduceCoalesced(tensors, options);
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    return this.inner.broadcast(tensor, options);
  }

  override reduce(tensor: TensorView, options: ReduceToRootOptions): Work<unknown> {
    return this.inner.reduce(tensor, options);
  }

  override allGather(outputs: readonly TensorView[], input: TensorView, options: OpOptions): Work<unknown> {
    return this.inner.allGather(outputs, input, options);
  }

  override allGatherIntoTensor(output: TensorView, input: TensorView, options: OpOptions): Work<unknown> {
    return this.inner.allGatherIntoTensor(output, input, options);
  }

  override allReduceSparse(tensor: SparseTensor, options: OpOptions): Work<unknown> {
    return this.inner.allReduceSparse(tensor, options);
  }

  override allGatherIntoTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: OpOptions,
  ): Work<unknown> {
    return this.inner.allGatherIntoTensorCoalesced(outputs, inputs, options);
  }

  override reduceScatterTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: ReduceOptions,
  ): Work<unknown> {
    return this.inner.reduceScatterTensorCoalesced(outputs, inputs, options);
  }

  override gather(outputs: readonly TensorView[], input: TensorView, options: RootOptions): Work<unknown> {
    return this.inner.gather(outputs, input, options);
  }

  override scatter(output: TensorView, inputs: readonly TensorView[], options: RootOptions): Work<unknown> {
    return this.inner.scatter(output, inputs, options);
  }

  override reduceScatter(output: TensorView, inputs: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    return this.inner.reduceScatter(output, inputs, options);
  }

  override reduceScatterTensor(output: TensorView, input: TensorView, options: ReduceOptions): Work<unknown> {
    return this.inner.reduceScatterTensor(output, input, options);
  }

  override allToAll(outputs: readonly TensorView[], inputs: readonly TensorView[], options: OpOptions): Work<unknown> {
    return this.inner.allToAll(outputs, inputs, options);
  }

  override allToAllSingle(output: TensorView, input: TensorView, options: AllToAllOptions): Work<unknown> {
    return this.inner.allToAllSingle(output, input, options);
  }

  override send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.inner.send(tensor, options);
  }

  override recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.inner.recv(tensor, options);
  }

  override barrier(options: OpOptions): Work<unknown> {
    return this.inner.barrier(options);
  }

  override monitoredBarrier(options: MonitoredBarrierOptions): Work<unknown> {
    return this.inner.monitoredBarrier(options);
  }

  override abort(reason: string): void {
    this.inner.abort(reason);
  }

  override drained(): Promise<void> {
    return this.inner.drained();
  }

  override close(): Promise<void> {
    return this.inner.close();
  }
}
