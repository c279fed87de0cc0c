import { opTable } from "../../collectives/index.ts";
import { type DType, dtypes, type TensorView } from "../../tensor/index.ts";
import type { Message } from "./exchange/exchange-port.ts";
import { type NumberedCall, readBy } from "./numbered-call.ts";

// The same texts as those of native/ops/call_text.cc, which the shims use.

const ADVICE =
  "All ranks must call the same collectives in the same order, with the same dtypes, sizes, reduce ops and roots";

/** A rank and its call. */
export interface RankCall {
  readonly rank: number;
  readonly call: NumberedCall;
}

/** Tensors whose sizes are the same on all ranks; for gather and scatter, only the root has the list. */
function agreedTensors(call: NumberedCall): readonly TensorView[] {
  return call.op === "scatter" ? call.outputs : readBy(call);
}

function hasAgreedSizes({ op }: NumberedCall): boolean {
  return op !== "allToAll" && !opTable[op].splits;
}

/**
 * A collective as text, such as `reduce(float32[3], SUM, root 0)`, `allToAll(float32)`, or for a list
 * `allReduceCoalesced(3 tensors of float32, 12 elements, SUM)`.
 */
export function textOf(call: NumberedCall): string {
  const tensors = agreedTensors(call);
  // A sparse tensor is its indices and its values, and only the latter are of the dtype that it was made with.
  const dtype = tensors.at(-1)?.dtype;
  const elements = tensors.reduce((sum, { length }) => sum + length, 0);
  const sizes = !hasAgreedSizes(call)
    ? dtype
    : tensors.length > 1
      ? `${tensors.length} tensors of ${dtype}, ${elements} elements`
      : dtype && `${dtype}[${elements}]`;
  const root = opTable[call.op].root && `root ${call.root}`;
  const parts = [sizes, call.reduceOp?.toString(), root].filter((part) => part !== undefined);
  return `${call.op}(${parts.join(", ")})`;
}

/** Whether two ranks made the same call, at the same position. */
export function agree(a: NumberedCall, b: NumberedCall): boolean {
  if (a.number !== b.number || textOf(a) !== textOf(b)) return false;
  if (!hasAgreedSizes(a)) return true;
  const [tensorsOfA, tensorsOfB] = [agreedTensors(a), agreedTensors(b)];
  return tensorsOfA.every(({ length }, i) => length === tensorsOfB[i]?.length);
}

/** `rank 0 called allReduce(float32[4], SUM) as collective #3, rank 1 called allReduce(float32[4], MAX). ...` */
export function mismatchText(a: RankCall, b: RankCall): string {
  if (a.rank > b.rank) return mismatchText(b, a);
  const [first, second] = [textOf(a.call), textOf(b.call)];
  const calls = `rank ${a.rank} called ${first} as collective #${a.call.number}, rank ${b.rank} called ${second}`;
  return `${calls}${differenceOf(a, b)}. ${ADVICE}`;
}

/** The difference that the texts of the two calls do not show. */
function differenceOf(a: RankCall, b: RankCall): string {
  if (a.call.number === b.call.number) return textOf(a.call) === textOf(b.call) ? " with tensors of other sizes" : "";
  // Calls are compared in order, so only refused calls can make the numbers differ.
  const [ahead, behind] = a.call.number > b.call.number ? [a, b] : [b, a];
  const more = ahead.call.number - behind.call.number;
  return (
    ` as collective #${b.call.number}: rank ${ahead.rank} has refused ${more} ${more === 1 ? "call" : "calls"} more ` +
    `than rank ${behind.rank}`
  );
}

/**
 * All-to-all: `rank 0 called allToAll(float32) as collective #3, rank 1 called allToAll(float32), but rank 0 sends
 * float32[4] to rank 1, which expects float32[3]`.
 */
export function splitMismatchText(
  call: NumberedCall,
  dtype: DType,
  sender: number,
  sentBytes: number,
  receiver: number,
  expectedBytes: number,
): string {
  const text = textOf(call);
  const [lower, higher] = [Math.min(sender, receiver), Math.max(sender, receiver)];
  return (
    `rank ${lower} called ${text} as collective #${call.number}, rank ${higher} called ${text}, but rank ${sender} sends ` +
    `${tensorText(dtype, sentBytes)} to rank ${receiver}, which expects ${tensorText(dtype, expectedBytes)}`
  );
}

/** Message: `rank 0 sent float32[4] with tag 5, rank 1 was to receive float32[3]`. */
export function messageMismatchText(send: Message, recv: Message): string {
  const [sent, wanted] = [send, recv].map(({ tensor }) => `${tensor.dtype}[${tensor.length}]`);
  return `rank ${send.rank} sent ${sent} with tag ${send.tag}, rank ${recv.rank} was to receive ${wanted}`;
}

function tensorText(dtype: DType, bytes: number): string {
  return `${dtype}[${bytes / dtypes[dtype].size}]`;
}
