import { OpType } from "../collectives/index.ts";
import { InvalidArgumentError, type Timeout } from "../errors/index.ts";
import { ProcessGroup } from "../process-group/index.ts";
import { describe, type TensorLike } from "../tensor/index.ts";
import { Work } from "../work/index.ts";
import { recv, send } from "./collectives.ts";
import { currentContext } from "./dist-context.ts";

/** A message of {@link batchIsendIrecv}. c10d: `P2POp`. */
export interface P2POp {
  /** `dist.isend` or `dist.irecv`. */
  readonly op: typeof send | typeof recv;
  readonly tensor: TensorLike;
  /** Global rank of the other side. Exactly one of it and `groupPeer` is given. */
  readonly peer?: number;
  /** Rank of the other side in the group. */
  readonly groupPeer?: number;
  /** 0 by default. */
  readonly tag?: number;
  /** The default group by default; the same for the whole list. */
  readonly group?: ProcessGroup | null;
  readonly timeout?: Timeout;
}

/**
 * Starts a list of sends and receives together. If one of them is refused, none is sent and the Works of all reject.
 *
 * @returns A Work for each, in their order.
 *
 * c10d: `batch_isend_irecv`.
 */
export function batchIsendIrecv(ops: readonly P2POp[]): Work<TensorLike>[] {
  let group: ProcessGroup | null;
  try {
    group = groupOf(ops);
  } catch (error) {
    const count = Array.isArray(ops) ? Math.max(1, ops.length) : 1;
    return Array.from({ length: count }, () => Work.rejected(error, { opType: OpType.COALESCED }));
  }
  if (group === null) {
    currentContext().warnNonMember("batchIsendIrecv");
    return ops.map(({ tensor }) => Work.completed(tensor, { opType: OpType.COALESCED }));
  }
  const member = group;
  const works: Work<TensorLike>[] = [];
  const whole = member.coalescing(() => {
    for (const op of ops) works.push(start(member, op));
  });
  const refusal = whole.isCompleted() ? whole.exception() : undefined;
  // Each message has a Work of its own, which its failure is told by.
  whole.catch(() => {});
  if (refusal === undefined) return works;
  return ops.map(() => Work.rejected(refusal, { opType: OpType.COALESCED }));
}

function start(group: ProcessGroup, { op, tensor, peer, groupPeer, tag, timeout }: P2POp): Work<TensorLike> {
  const options = { ...(tag !== undefined && { tag }), ...(timeout !== undefined && { timeout }) };
  if (op === send) return group.send(tensor, { ...options, ...named("dst", "groupDst", peer, groupPeer) });
  return group.recv(tensor, { ...options, ...named("src", "groupSrc", peer, groupPeer) });
}

function named(global: string, inGroup: string, peer: number | undefined, groupPeer: number | undefined): object {
  return { ...(peer !== undefined && { [global]: peer }), ...(groupPeer !== undefined && { [inGroup]: groupPeer }) };
}

function groupOf(ops: readonly P2POp[]): ProcessGroup | null {
  const fail = (reason: string): never => {
    throw new InvalidArgumentError(`batchIsendIrecv: ${reason}`, { op: "batchIsendIrecv", argument: "ops" });
  };
  if (!Array.isArray(ops)) return fail(`ops must be an array, got ${describe(ops)}`);
  const list: readonly P2POp[] = ops;
  if (list.length === 0) return fail("ops is an empty list; it needs at least one message");
  list.forEach((each, i) => {
    if (typeof each !== "object" || each === null) fail(`ops[${i}] must be an object, got ${describe(each)}`);
    if (each.op !== send && each.op !== recv) fail(`ops[${i}].op must be isend or irecv, got ${describe(each.op)}`);
    if (each.op === recv && each.peer === undefined && each.groupPeer === undefined) {
      fail(`ops[${i}] must name a peer or groupPeer`);
    }
    if (each.group !== list[0]?.group) fail("all ops need to use the same group");
  });
  const group = list[0]?.group;
  if (group === undefined) return currentContext().require().group;
  if (group === null || group instanceof ProcessGroup) return group;
  return fail(`group must be a ProcessGroup, got ${describe(group)}`);
}
