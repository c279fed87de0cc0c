import { OpType } from "../collectives/index.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import { type P2POp as MessageOf, ProcessGroup, refuseBatch, requireBatch, standsFor } from "../process-group/index.ts";
import type { TensorLike } from "../tensor/index.ts";
import { refusedWithoutGroup, Work } from "../work/index.ts";
import { recv, send } from "./collectives.ts";
import { currentContext } from "./dist-context.ts";

/** A message of {@link batchIsendIrecv}. c10d: `P2POp`. */
export interface P2POp extends MessageOf<ProcessGroup> {
  /** `dist.isend` or `dist.irecv`. */
  readonly op: typeof send | typeof recv;
}

standsFor("send", send);
standsFor("recv", recv);

/**
 * Starts a list of sends and receives together. If one of them is refused, none is sent and all Works reject.
 *
 * @returns One Work per message, in the order of `ops`.
 *
 * c10d: `batch_isend_irecv`.
 */
export function batchIsendIrecv(ops: readonly P2POp[]): Work<TensorLike>[] {
  let group: ProcessGroup | null;
  try {
    group = groupOf(ops);
  } catch (error) {
    return refuseBatch(ops, error, refusedWithoutGroup);
  }
  if (group !== null) return group.batchIsendIrecv(ops.map((op) => ({ ...op, group })));
  currentContext().warnNonMember("batchIsendIrecv");
  return ops.map(({ tensor }) => Work.completed(tensor, { opType: OpType.COALESCED }));
}

function groupOf(ops: readonly P2POp[]): ProcessGroup | null {
  const group = requireBatch(ops);
  if (group === undefined) return currentContext().require().group;
  if (group === null || group instanceof ProcessGroup) return group;
  throw new InvalidArgumentError(`batchIsendIrecv: group must be a ProcessGroup, got ${describe(group)}`, {
    op: "batchIsendIrecv",
    argument: "ops",
  });
}
