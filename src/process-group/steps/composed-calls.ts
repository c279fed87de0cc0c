import { madeOf, type OpCall, type Operation, opCall, opTable, singleOf } from "../../collectives/index.ts";
import type { CapabilityTable } from "../../registry/index.ts";
import { type DType, partOfView, type TensorView } from "../../tensor/index.ts";

/**
 * The calls that carry out a call on a backend: itself or, if the backend lacks the op, those that it can be composed
 * of. A list is split into single tensors, and a tensor that holds all ranks' parts into a list with one tensor per
 * rank.
 *
 * @param table What the backends of all ranks support, so that all ranks compose it in the same way.
 * @throws UnsupportedOperationError if it cannot be composed.
 */
export function callsFor(call: OpCall, table: CapabilityTable, size: number): readonly OpCall[] {
  const { inputs, outputs, reduceOp } = call;
  const op = call.op as Operation;
  const dtype = (inputs[0] ?? outputs[0])?.dtype;
  if (dtype !== undefined && !table.has(op, dtype, reduceOp)) {
    const { perRank } = opTable[op];
    if (perRank !== undefined && table.has(perRank, dtype, reduceOp)) return [perRankCall(call, perRank, size)];
    const single = singleOf(op);
    if (single !== undefined) return singleCalls(call, single).flatMap((each) => callsFor(each, table, size));
  }
  table.require(op, dtype, reduceOp);
  if (op === "recv" && call.peer < 0) table.requireAnySource();
  return [call];
}

/** Throws UnsupportedOperationError unless an op that does not reduce is supported or can be composed. */
export function requireComposable(op: Operation, table: CapabilityTable, dtype: DType): void {
  const has = (part: Operation) => table.has(part, dtype);
  if (!has(op) && madeOf(op, has) === undefined) table.require(op, dtype);
}

/** One call for each tensor of the lists. */
function singleCalls({ device, inputs, outputs, timeoutMs, ...call }: OpCall, single: Operation): OpCall[] {
  const terms = { reduceOp: call.reduceOp, stream: call.stream, callSite: call.callSite };
  return outputs.map((output, i) => opCall(single, device, inputs.slice(i, i + 1), [output], timeoutMs, terms));
}

/** The call with lists of the ranks' parts instead of tensors that hold all parts. */
function perRankCall(call: OpCall, op: Operation, size: number): OpCall {
  const { device, inputs, outputs, inputSplits, outputSplits, timeoutMs, reduceOp, root } = call;
  const parts = (views: readonly TensorView[], side: string, splits: readonly number[] | undefined) =>
    side === "perRank" || side === "perRankAtRoot" ? views.flatMap((view) => partsOf(view, size, splits)) : views;
  const row = opTable[op];
  return opCall(
    op,
    device,
    parts(inputs, row.inputs, inputSplits),
    parts(outputs, row.outputs, outputSplits),
    timeoutMs,
    { reduceOp, root, stream: call.stream, callSite: call.callSite },
  );
}

/** The ranks' parts of a tensor: equal ones, or of the given lengths. */
function partsOf(view: TensorView, size: number, splits: readonly number[] | undefined): TensorView[] {
  let start = 0;
  return Array.from({ length: size }, (_, rank) => {
    const length = splits?.[rank] ?? view.length / size;
    start += length;
    return partOfView(view, start - length, length);
  });
}
