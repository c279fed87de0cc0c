import { OpType, opNames, requireOptions } from "../collectives/index.ts";
import { requireOptionNames } from "../collectives/option-names.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import {
  type AllGatherOptions,
  type AllReduceOptions,
  type AllToAllListOptions,
  type AllToAllSingleOptions,
  type BarrierOptions,
  type BroadcastOptions,
  type GatherOptions,
  type GatherSingleOptions,
  type MonitoredBarrierCallOptions,
  type OneOrList,
  ProcessGroup,
  type RecvOptions,
  type ReduceScatterOptions,
  type ReduceToOptions,
  type ScatterOptions,
  type SendOptions,
} from "../process-group/index.ts";
import type { SparseTensor, TensorLike } from "../tensor/index.ts";
import { refusedWithoutGroup, Work } from "../work/index.ts";
import { currentContext, type DistContext } from "./dist-context.ts";

/** Adds `group` to the options of an op; the default group by default. `null` on ranks that are not members of it. */
export type InGroup<Options> = Options & { readonly group?: ProcessGroup | null };

/** Reduces a tensor, a list of them, or a sparse tensor across all ranks: {@link ProcessGroup.allReduce}. */
export function allReduce<T extends TensorLike | readonly TensorLike[] | SparseTensor>(
  tensors: T,
  options: InGroup<AllReduceOptions> = {},
): Work<T> {
  return onGroup(OpType.ALLREDUCE, options, tensors, (group) => group.allReduce(tensors, options));
}

/** Copies the root's tensor to all ranks: {@link ProcessGroup.broadcast}. */
export function broadcast<T extends TensorLike>(tensor: T, options: InGroup<BroadcastOptions>): Work<T> {
  return onGroup(OpType.BROADCAST, options, tensor, (group) => group.broadcast(tensor, options));
}

/** Reduces a tensor across all ranks into the destination's: {@link ProcessGroup.reduce}. */
export function reduce<T extends TensorLike>(tensor: T, options: InGroup<ReduceToOptions>): Work<T> {
  return onGroup(OpType.REDUCE, options, tensor, (group) => group.reduce(tensor, options));
}

/** Gathers the tensors of all ranks on every rank: {@link ProcessGroup.allGather}. */
export function allGather<T extends readonly TensorLike[]>(
  outputs: T,
  input: TensorLike,
  options: InGroup<AllGatherOptions> = {},
): Work<T> {
  return onGroup(OpType.ALLGATHER, options, outputs, (group) => group.allGather(outputs, input, options));
}

/** Gathers the tensors of all ranks into one, or lists of them: {@link ProcessGroup.allGatherIntoTensor}. */
export function allGatherIntoTensor<T extends TensorLike | readonly TensorLike[]>(
  output: T,
  input: OneOrList<T>,
  options: InGroup<AllGatherOptions> = {},
): Work<T> {
  return onGroup(OpType.ALLGATHER_BASE, options, output, (group) => group.allGatherIntoTensor(output, input, options));
}

/** Gathers the tensors of all ranks on the destination: {@link ProcessGroup.gather}. */
export function gather(input: TensorLike, options: InGroup<GatherOptions>): Work<readonly TensorLike[] | undefined> {
  return onGroup(OpType.GATHER, options, undefined, (group) => group.gather(input, options));
}

/** Gathers the tensors of all ranks into one on the destination: {@link ProcessGroup.gatherSingle}. */
export function gatherSingle<T extends TensorLike>(
  output: T | undefined,
  input: TensorLike,
  options: InGroup<GatherSingleOptions>,
): Work<T | undefined> {
  return onGroup(OpType.GATHER, options, output, (group) => group.gatherSingle(output, input, options), "gatherSingle");
}

/** Scatters the source's tensors, one to each rank: {@link ProcessGroup.scatter}. */
export function scatter<T extends TensorLike>(output: T, options: InGroup<ScatterOptions>): Work<T> {
  return onGroup(OpType.SCATTER, options, output, (group) => group.scatter(output, options));
}

/** Reduces `inputs[rank]` across all ranks into that rank's output: {@link ProcessGroup.reduceScatter}. */
export function reduceScatter<T extends TensorLike>(
  output: T,
  inputs: readonly TensorLike[],
  options: InGroup<ReduceScatterOptions> = {},
): Work<T> {
  return onGroup(OpType.REDUCE_SCATTER, options, output, (group) => group.reduceScatter(output, inputs, options));
}

/** Reduces part `rank` of the input across all ranks, or of lists: {@link ProcessGroup.reduceScatterTensor}. */
export function reduceScatterTensor<T extends TensorLike | readonly TensorLike[]>(
  output: T,
  input: OneOrList<T>,
  options: InGroup<ReduceScatterOptions> = {},
): Work<T> {
  return onGroup(OpType.REDUCE_SCATTER_BASE, options, output, (group) =>
    group.reduceScatterTensor(output, input, options),
  );
}

/** Sends a tensor to each rank and receives one from each: {@link ProcessGroup.allToAll}. */
export function allToAll<T extends readonly TensorLike[]>(
  outputs: T,
  inputs: readonly TensorLike[],
  options: InGroup<AllToAllListOptions> = {},
): Work<T> {
  return onGroup(OpType.ALLTOALL, options, outputs, (group) => group.allToAll(outputs, inputs, options));
}

/** Sends one part of the input to each rank and receives one from each: {@link ProcessGroup.allToAllSingle}. */
export function allToAllSingle<T extends TensorLike>(
  output: T,
  input: TensorLike,
  options: InGroup<AllToAllSingleOptions> = {},
): Work<T> {
  return onGroup(OpType.ALLTOALL_BASE, options, output, (group) => group.allToAllSingle(output, input, options));
}

/** Sends a tensor to one rank: {@link ProcessGroup.send}. */
export function send<T extends TensorLike>(tensor: T, options: InGroup<SendOptions>): Work<T> {
  return onGroup(OpType.SEND, options, tensor, (group) => group.send(tensor, options));
}

/** Receives a tensor from one rank, or from any rank: {@link ProcessGroup.recv}. */
export function recv<T extends TensorLike>(tensor: T, options: InGroup<RecvOptions> = {}): Work<T> {
  return onGroup(OpType.RECV, options, tensor, (group) => group.recv(tensor, options));
}

/** Same as {@link send}, since every op returns a Work. */
export const isend = send;
/** Same as {@link recv}, since every op returns a Work. */
export const irecv = recv;

/** A barrier whose time-out error names the ranks that did not arrive: {@link ProcessGroup.monitoredBarrier}. */
export function monitoredBarrier(options: InGroup<MonitoredBarrierCallOptions> = {}): Work<void> {
  return onGroup(OpType.BARRIER, options, undefined, (group) => group.monitoredBarrier(options));
}

/** Completes when all ranks have reached it: {@link ProcessGroup.barrier}. */
export function barrier(options: InGroup<BarrierOptions> = {}): Work<void> {
  return onGroup(OpType.BARRIER, options, undefined, (group) => group.barrier(options));
}

/** Submits the ops that `body` calls on the group together: {@link ProcessGroup.coalescing}. */
export function coalescing(body: () => void, options: InGroup<object> = {}): Work<void> {
  try {
    requireOptionNames<InGroup<object>>("coalescing", options, { group: true });
  } catch (error) {
    return refusedWithoutGroup(error, OpType.COALESCED);
  }
  return onGroup(OpType.COALESCED, options, undefined, (group) => group.coalescing(body));
}

/** Runs an op on the given or the default group; on ranks that are not members it has no effect. */
export function onGroup<T>(
  opType: OpType,
  options: InGroup<object>,
  unchanged: T,
  run: (group: ProcessGroup) => Work<T>,
  name: string = opNames[opType],
): Work<T> {
  const context = currentContext();
  let group: ProcessGroup | null;
  try {
    group = groupOf(context, options, name);
  } catch (error) {
    return refusedWithoutGroup(error, opType);
  }
  // Not within `try`: as a tail call it leaves no frame of this function, which each call site would have.
  if (group !== null) return run(group);
  context.warnNonMember(name);
  return Work.completed(unchanged, { opType });
}

/** The group that the options name, or the default group; `null` if this rank is not a member. */
function groupOf(context: DistContext, options: InGroup<object>, name: string): ProcessGroup | null {
  requireOptions(name, options);
  const { group } = options;
  if (group === undefined) return context.require().group;
  if (group === null || group instanceof ProcessGroup) return group;
  throw new InvalidArgumentError(`${name}: group must be a ProcessGroup, got ${describe(group)}`, {
    op: name,
    argument: "group",
  });
}
