import { OpType, opNames } from "../collectives/index.ts";
import type { AllReduceOptions, BarrierOptions, BroadcastOptions, ProcessGroup } from "../process-group/index.ts";
import type { TensorLike } from "../tensor/index.ts";
import { Work } from "../work/index.ts";
import { currentContext } from "./dist-context.ts";

/** Adds the group to the options of an op. `null` is the group of a rank that is no member of it. */
export type InGroup<Options> = Options & { readonly group?: ProcessGroup | null };

/** Reduces a tensor, or a list of tensors of one dtype, over all ranks in place: {@link ProcessGroup.allReduce}. */
export function allReduce<T extends TensorLike | readonly TensorLike[]>(
  tensors: T,
  options: InGroup<AllReduceOptions> = {},
): Work<T> {
  return onGroup(OpType.ALLREDUCE, options.group, tensors, (group) => group.allReduce(tensors, options));
}

/** Copies the root's tensor to all ranks: {@link ProcessGroup.broadcast}. */
export function broadcast<T extends TensorLike>(tensor: T, options: InGroup<BroadcastOptions>): Work<T> {
  return onGroup(OpType.BROADCAST, options.group, tensor, (group) => group.broadcast(tensor, options));
}

/** Completes when all ranks have come to it: {@link ProcessGroup.barrier}. */
export function barrier(options: InGroup<BarrierOptions> = {}): Work<void> {
  return onGroup(OpType.BARRIER, options.group, undefined, (group) => group.barrier(options));
}

/** Runs an op on the group, the default one if none is given; for ranks that are no members it has no effect. */
function onGroup<T>(
  opType: OpType,
  group: ProcessGroup | null | undefined,
  unchanged: T,
  run: (group: ProcessGroup) => Work<T>,
): Work<T> {
  const context = currentContext();
  if (group === null) {
    context.warnNonMember(opNames[opType]);
    return Work.completed(unchanged, { opType });
  }
  if (group !== undefined) return run(group);
  try {
    return run(context.require().group);
  } catch (error) {
    return Work.rejected(error, { opType });
  }
}
