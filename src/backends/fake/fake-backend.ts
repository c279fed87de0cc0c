import { OpType } from "../../collectives/op-type.ts";
import {
  type AllToAllOptions,
  Backend,
  type MessageOptions,
  type MonitoredBarrierOptions,
  type OpOptions,
  type ReduceOptions,
  type ReduceToRootOptions,
  type RootOptions,
} from "../../registry/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";
import type { CollectiveCall } from "./collective-call.ts";

/** Brings the collectives of `Backend` into one form. What is done with them is up to the mode. */
export abstract class FakeBackend extends Backend {
  override readonly name = "fake";

  /** @param result What the Work resolves to. */
  protected abstract collective(call: CollectiveCall, result: unknown, options: OpOptions): Work<unknown>;

  protected abstract message(
    opType: OpType.SEND | OpType.RECV | OpType.RECV_ANY_SOURCE,
    tensor: TensorView,
    options: MessageOptions,
  ): Work<unknown>;

  override allReduce(tensor: TensorView, options: ReduceOptions): Work<unknown> {
    const call = { name: "allReduce", opType: OpType.ALLREDUCE, ...inPlace([tensor]), reduceOp: options.op } as const;
    return this.collective(call, tensor.source, options);
  }

  override allReduceCoalesced(tensors: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    const opType = OpType.ALLREDUCE_COALESCED;
    const call = { name: "allReduceCoalesced", opType, ...inPlace(tensors), reduceOp: options.op } as const;
    return this.collective(call, sourcesOf(tensors), options);
  }

  override broadcast(tensor: TensorView, options: RootOptions): Work<unknown> {
    const call = { name: "broadcast", opType: OpType.BROADCAST, ...inPlace([tensor]), root: options.root } as const;
    return this.collective(call, tensor.source, options);
  }

  override reduce(tensor: TensorView, options: ReduceToRootOptions): Work<unknown> {
    const { op: reduceOp, root } = options;
    const call = { name: "reduce", opType: OpType.REDUCE, ...inPlace([tensor]), reduceOp, root } as const;
    return this.collective(call, tensor.source, options);
  }

  override allGather(outputs: readonly TensorView[], input: TensorView, options: OpOptions): Work<unknown> {
    const call = { name: "allGather", opType: OpType.ALLGATHER, inputs: [input], outputs } as const;
    return this.collective(call, sourcesOf(outputs), options);
  }

  override allGatherIntoTensor(output: TensorView, input: TensorView, options: OpOptions): Work<unknown> {
    const opType = OpType.ALLGATHER_BASE;
    const call = { name: "allGatherIntoTensor", opType, inputs: [input], outputs: [output] } as const;
    return this.collective(call, output.source, options);
  }

  override gather(outputs: readonly TensorView[], input: TensorView, options: RootOptions): Work<unknown> {
    const { root } = options;
    const call = { name: "gather", opType: OpType.GATHER, inputs: [input], outputs, root } as const;
    return this.collective(call, this.rank === root ? sourcesOf(outputs) : undefined, options);
  }

  override scatter(output: TensorView, inputs: readonly TensorView[], options: RootOptions): Work<unknown> {
    const { root } = options;
    const call = { name: "scatter", opType: OpType.SCATTER, inputs, outputs: [output], root } as const;
    return this.collective(call, output.source, options);
  }

  override reduceScatter(output: TensorView, inputs: readonly TensorView[], options: ReduceOptions): Work<unknown> {
    const opType = OpType.REDUCE_SCATTER;
    const call = { name: "reduceScatter", opType, inputs, outputs: [output], reduceOp: options.op } as const;
    return this.collective(call, output.source, options);
  }

  override reduceScatterTensor(output: TensorView, input: TensorView, options: ReduceOptions): Work<unknown> {
    const opType = OpType.REDUCE_SCATTER_BASE;
    const lists = { inputs: [input], outputs: [output] };
    const call = { name: "reduceScatterTensor", opType, ...lists, reduceOp: options.op } as const;
    return this.collective(call, output.source, options);
  }

  override allToAll(outputs: readonly TensorView[], inputs: readonly TensorView[], options: OpOptions): Work<unknown> {
    const call = { name: "allToAll", opType: OpType.ALLTOALL, inputs, outputs } as const;
    return this.collective(call, sourcesOf(outputs), options);
  }

  override allToAllSingle(output: TensorView, input: TensorView, options: AllToAllOptions): Work<unknown> {
    const { inputSplits, outputSplits } = options;
    const lists = { inputs: [input], outputs: [output], inputSplits, outputSplits };
    const call = { name: "allToAllSingle", opType: OpType.ALLTOALL_BASE, ...lists } as const;
    return this.collective(call, output.source, options);
  }

  override barrier(options: OpOptions): Work<unknown> {
    const call = { name: "barrier", opType: OpType.BARRIER, inputs: [], outputs: [] } as const;
    return this.collective(call, undefined, options);
  }

  override monitoredBarrier(options: MonitoredBarrierOptions): Work<unknown> {
    const call = { name: "monitoredBarrier", opType: OpType.BARRIER, inputs: [], outputs: [] } as const;
    return this.collective(call, undefined, options);
  }

  override send(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.message(OpType.SEND, tensor, options);
  }

  override recv(tensor: TensorView, options: MessageOptions): Work<unknown> {
    return this.message(options.peer < 0 ? OpType.RECV_ANY_SOURCE : OpType.RECV, tensor, options);
  }
}

function inPlace(tensors: readonly TensorView[]): Pick<CollectiveCall, "inputs" | "outputs"> {
  return { inputs: tensors, outputs: tensors };
}

function sourcesOf(tensors: readonly TensorView[]): unknown[] {
  return tensors.map(({ source }) => source);
}
