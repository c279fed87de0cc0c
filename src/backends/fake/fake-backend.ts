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
import {
  type SparseTensor,
  type SparseValues,
  type TensorStorage,
  type TensorView,
  viewTensor,
} from "../../tensor/index.ts";
import { Work } from "../../work/index.ts";
import { allReduceSparse } from "../sparse-all-reduce.ts";
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

  override allReduceSparse(tensor: SparseTensor, { timeoutMs, owner }: OpOptions): Work<unknown> {
    const gather = (output: TensorStorage, input: TensorStorage, limits: OpOptions) =>
      this.allGatherIntoTensor(viewTensor(output), viewTensor(input), limits);
    const sum = allReduceSparse(tensor, this.rank, this.size, timeoutMs, {
      terms: (own, all, limits) => gather(all, own, limits),
      parts: async (own, counts, indices, values, limits) => {
        await gatherUnequal(gather, own.indices, counts, own.sparseDims, indices, limits);
        await gatherUnequal(gather, own.values, counts, own.blockLength, values, limits);
      },
    });
    return Work.fromPromise(sum, { opType: OpType.ALLREDUCE_SPARSE, ...(owner && { owner }) });
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

  override allGatherIntoTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: OpOptions,
  ): Work<unknown> {
    const call = { name: "allGatherIntoTensorCoalesced", opType: OpType.ALLGATHER_COALESCED, inputs, outputs } as const;
    return this.collective(call, sourcesOf(outputs), options);
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

  override reduceScatterTensorCoalesced(
    outputs: readonly TensorView[],
    inputs: readonly TensorView[],
    options: ReduceOptions,
  ): Work<unknown> {
    const opType = OpType.REDUCE_SCATTER_TENSOR_COALESCED;
    const call = { name: "reduceScatterTensorCoalesced", opType, inputs, outputs, reduceOp: options.op } as const;
    return this.collective(call, sourcesOf(outputs), options);
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

/** Gathers inputs of different lengths: as many elements for each rank as its count says, times `factor`. */
async function gatherUnequal<A extends BigInt64Array | SparseValues>(
  gather: (output: TensorStorage, input: TensorStorage, limits: OpOptions) => Work<unknown>,
  input: A,
  counts: readonly number[],
  factor: number,
  output: A,
  limits: OpOptions,
): Promise<void> {
  const longest = Math.max(...counts) * factor;
  const type = input.constructor as new (length: number) => A;
  const padded = new type(longest);
  const all = new type(longest * counts.length);
  copyTo(padded, input, 0);
  await gather(all, padded, limits);
  let at = 0;
  for (const [rank, count] of counts.entries()) {
    copyTo(output, all.subarray(rank * longest, rank * longest + count * factor), at);
    at += count * factor;
  }
}

function copyTo(target: ArrayBufferView, source: ArrayBufferView, atElement: number): void {
  const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  const size = "BYTES_PER_ELEMENT" in target ? Number(target.BYTES_PER_ELEMENT) : 1;
  new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(bytes, atElement * size);
}
