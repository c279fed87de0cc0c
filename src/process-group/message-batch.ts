import { OpType } from "../collectives/index.ts";
import { describe, InvalidArgumentError } from "../errors/index.ts";
import type { TensorLike } from "../tensor/index.ts";
import type { Timeout } from "../time/index.ts";
import { failureOf, type Work } from "../work/index.ts";
import type { RecvOptions, SendOptions } from "./arguments/call-options.ts";

/** Whether a message is sent or received. */
type Direction = "send" | "recv";

/** A function that stands for a direction: `dist.isend` or `dist.irecv`, or the methods of the same names. */
export type MessageFunction = (tensor: never, options: never) => Work<unknown>;

/** A message of `batchIsendIrecv`. c10d: `P2POp`. */
export interface P2POp<Group extends object = object> {
  /** `dist.isend` or `dist.irecv`. */
  readonly op: MessageFunction;
  readonly tensor: TensorLike;
  /** Global rank of the peer. Exactly one of `peer` and `groupPeer` must be given. */
  readonly peer?: number;
  /** Rank of the peer in the group. */
  readonly groupPeer?: number;
  /** 0 by default. */
  readonly tag?: number;
  /** By default the default group or, for the method, the group itself. The same for all ops of the list. */
  readonly group?: Group | null;
  readonly timeout?: Timeout;
}

/** Names of the fields of a {@link P2POp}. */
const fields: Readonly<Record<keyof P2POp, true>> = Object.assign(Object.create(null), {
  op: true,
  tensor: true,
  peer: true,
  groupPeer: true,
  tag: true,
  group: true,
  timeout: true,
} satisfies Readonly<Record<keyof P2POp, true>>);

/** What a batch needs of its group. */
interface MessageGroup {
  coalescing(body: () => void): Work<void>;
  send<T extends TensorLike>(tensor: T, options: SendOptions): Work<T>;
  recv<T extends TensorLike>(tensor: T, options: RecvOptions): Work<T>;
}

/** On the function itself, so that another copy of this package recognises it, too. */
const DIRECTION: unique symbol = Symbol.for("bun-c10d.direction");

/** Lets a function stand for a direction in {@link P2POp.op}. */
export function standsFor(direction: Direction, ...functions: readonly MessageFunction[]): void {
  for (const each of functions) Object.defineProperty(each, DIRECTION, { value: direction });
}

function directionOf(op: MessageFunction & { readonly [DIRECTION]?: Direction }): Direction | undefined {
  return typeof op === "function" ? op[DIRECTION] : undefined;
}

/**
 * Throws unless these are messages of one group.
 * @returns The group that they name.
 */
export function requireBatch<Group extends object>(ops: readonly P2POp<Group>[]): Group | null | undefined {
  const fail = (reason: string): never => {
    throw new InvalidArgumentError(`batchIsendIrecv: ${reason}`, { op: "batchIsendIrecv", argument: "ops" });
  };
  if (!Array.isArray(ops)) return fail(`ops must be an array, got ${describe(ops)}`);
  const list: readonly P2POp<Group>[] = ops;
  if (list.length === 0) return fail("ops is an empty list; it needs at least one message");
  for (const [i, each] of list.entries()) {
    if (typeof each !== "object" || each === null) fail(`ops[${i}] must be an object, got ${describe(each)}`);
    const unknown = Object.keys(each).find(
      (name) => !(name in fields) && each[name as keyof typeof each] !== undefined,
    );
    if (unknown !== undefined)
      fail(`ops[${i}] has the unknown field ${unknown} (known are ${Object.keys(fields).join(", ")})`);
    const direction = directionOf(each.op);
    if (direction === undefined) fail(`ops[${i}].op must be isend or irecv, got ${describe(each.op)}`);
    if (direction === "recv" && each.peer === undefined && each.groupPeer === undefined) {
      fail(`ops[${i}] must name a peer or groupPeer`);
    }
    if (each.group !== list[0]?.group) fail("all ops need to use the same group");
  }
  return list[0]?.group;
}

/** Makes the Work of a message that was refused. */
export type RefuseMessage = (error: unknown, opType: OpType) => Work<TensorLike>;

/** Starts checked messages together. */
export function startBatch(group: MessageGroup, ops: readonly P2POp[], refused: RefuseMessage): Work<TensorLike>[] {
  const works: Work<TensorLike>[] = [];
  const whole = group.coalescing(() => {
    for (const op of ops) works.push(start(group, op));
  });
  // The caller never sees the whole: its failure is the same error as that of each message.
  const refusal = failureOf(whole);
  return refusal === undefined ? works : refuseBatch(ops, refusal, refused);
}

/** Rejected Works, one for each message given. */
export function refuseBatch(ops: unknown, reason: unknown, refused: RefuseMessage): Work<TensorLike>[] {
  const count = Array.isArray(ops) ? Math.max(1, ops.length) : 1;
  return Array.from({ length: count }, () => refused(reason, OpType.COALESCED));
}

function start(group: MessageGroup, { op, tensor, peer, groupPeer, tag, timeout }: P2POp): Work<TensorLike> {
  const options = { ...(tag !== undefined && { tag }), ...(timeout !== undefined && { timeout }) };
  if (directionOf(op) === "send") {
    return group.send(tensor, { ...options, ...named("dst", "groupDst", peer, groupPeer) });
  }
  return group.recv(tensor, { ...options, ...named("src", "groupSrc", peer, groupPeer) });
}

function named(global: string, inGroup: string, peer: number | undefined, groupPeer: number | undefined): object {
  return { ...(peer !== undefined && { [global]: peer }), ...(groupPeer !== undefined && { [inGroup]: groupPeer }) };
}
