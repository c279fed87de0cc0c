import type { Device, Stream, TensorView } from "../tensor/index.ts";
import { type OpName, opTable } from "./op-table.ts";
import { OpType } from "./op-type.ts";
import type { ReduceOp } from "./reduce-op.ts";

/**
 * One call of an op by one rank, as it goes from the process group through the middleware to the backend. Its arguments have
 * been checked against the op's row in the op table; ranks are ranks in the group.
 *
 * Fields that an op has no use for hold their defaults: -1 for ranks, 0 for the tag.
 */
export interface OpCall {
  /** Number in this process, by which hooks and middleware know it again. */
  readonly id: number;
  /** A row of {@link opTable}, or `refused`: a collective that the process group has refused. */
  readonly op: OpName;
  /** Where the tensors are; of an op without tensors, the device of the backend. */
  readonly device: Device;
  /** What is read. Ops in place have outputs only. */
  readonly inputs: readonly TensorView[];
  /** What is written, and of ops in place read too. */
  readonly outputs: readonly TensorView[];
  /** Of ops that reduce. */
  readonly reduceOp: ReduceOp | undefined;
  /** Rank in the group of the root, of ops that have one. */
  readonly root: number;
  /** Of messages: the other side; -1 for a recv from any rank. */
  readonly peer: number;
  /** Of messages. */
  readonly tag: number;
  /** Elements for each rank; `undefined` for equal parts. Either both lists are given or none. */
  readonly inputSplits: readonly number[] | undefined;
  /** As `inputSplits`, of the output. */
  readonly outputSplits: readonly number[] | undefined;
  /** Of `monitoredBarrier`: whether to name all missing ranks rather than the first. */
  readonly waitAllRanks: boolean;
  /** Second half of a sparse all-reduce, which has the number and the tag of the first. */
  readonly continuation: boolean;
  /** Limit of the op in milliseconds; Infinity for none. */
  readonly timeoutMs: number;
  /** Of a device with streams: the op starts after what is in this one now; by default in the default stream. */
  readonly stream: Stream | undefined;
}

/** Fields of a call that only some ops have. */
export type CallTerms = Partial<
  Pick<
    OpCall,
    "reduceOp" | "root" | "peer" | "tag" | "inputSplits" | "outputSplits" | "waitAllRanks" | "continuation" | "stream"
  >
>;

let calls = 0;

/** Makes a call; all have their fields in one order, which keeps those who read them fast. */
export function opCall(
  op: OpName,
  device: Device,
  inputs: readonly TensorView[],
  outputs: readonly TensorView[],
  timeoutMs: number,
  terms: CallTerms = NO_TERMS,
): OpCall {
  return {
    id: ++calls,
    op,
    device,
    inputs,
    outputs,
    reduceOp: terms.reduceOp,
    root: terms.root ?? -1,
    peer: terms.peer ?? -1,
    tag: terms.tag ?? 0,
    inputSplits: terms.inputSplits,
    outputSplits: terms.outputSplits,
    waitAllRanks: terms.waitAllRanks ?? false,
    continuation: terms.continuation ?? false,
    timeoutMs,
    stream: terms.stream,
  };
}

/** The {@link OpType} of a call. */
export function opTypeOf({ op, peer }: Pick<OpCall, "op" | "peer">): OpType {
  return op === "recv" && peer < 0 ? OpType.RECV_ANY_SOURCE : opTable[op].opType;
}

/** All tensors of a call: those that are read, then those that are written. */
export function tensorsOf({ inputs, outputs }: Pick<OpCall, "inputs" | "outputs">): readonly TensorView[] {
  if (inputs.length === 0) return outputs;
  return outputs.length === 0 ? inputs : [...inputs, ...outputs];
}

/** No tensors on one side of a call. */
export const NO_TENSORS: readonly TensorView[] = [];
const NO_TERMS: CallTerms = {};
