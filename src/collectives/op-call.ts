import type { CallSite } from "../errors/index.ts";
import type { Device, Stream, TensorView } from "../tensor/index.ts";
import { type OpName, opTable } from "./op-table.ts";
import { OpType } from "./op-type.ts";
import type { ReduceOp } from "./reduce-op.ts";

/**
 * One call of an op by one rank, as it passes from the process group through the middleware to the backend. Its
 * arguments have been checked against the op's row in the op table; ranks are ranks in the group.
 *
 * Fields that an op does not use hold their defaults: -1 for ranks, 0 for the tag.
 */
export interface OpCall {
  /** Number of the call in this process, by which hooks and middleware recognise it. */
  readonly id: number;
  /** A row of {@link opTable}; `refused` is a collective that the process group refused. */
  readonly op: OpName;
  /** Device of the tensors; for an op without tensors, that of the backend, whose index may be {@link ANY_INDEX}. */
  readonly device: Device;
  /** Tensors that the op reads. In-place ops have outputs only. */
  readonly inputs: readonly TensorView[];
  /** Tensors that the op writes. In-place ops also read them. */
  readonly outputs: readonly TensorView[];
  /** For ops that reduce. */
  readonly reduceOp: ReduceOp | undefined;
  /** For ops with a root: its rank in the group. */
  readonly root: number;
  /** For messages: rank of the peer in the group; -1 for a recv from any rank. */
  readonly peer: number;
  /** For messages. */
  readonly tag: number;
  /** Number of elements for each rank; `undefined` for equal parts. Either both lists are given or neither. */
  readonly inputSplits: readonly number[] | undefined;
  /** Like `inputSplits`, for the output. */
  readonly outputSplits: readonly number[] | undefined;
  /**
   * For messages: whether `batchIsendIrecv` or `coalescing` called it, also alone. NCCL has another communicator for
   * those.
   */
  readonly batched: boolean;
  /** For `monitoredBarrier`: whether to name all missing ranks rather than the first. */
  readonly waitAllRanks: boolean;
  /** Whether this is the second half of a sparse all-reduce, with the sequence number and tag of the first. */
  readonly continuation: boolean;
  /** Time-out of the op in milliseconds; Infinity for none. */
  readonly timeoutMs: number;
  /** For devices with streams: the op starts after what is queued in this stream now. The default stream by default. */
  readonly stream: Stream | undefined;
  /** Where user code made the call; `undefined` for inner calls of an op of several steps, and with C10D_CALL_SITES=0. */
  readonly callSite: CallSite | undefined;
}

/** Fields of a call that only some ops have. */
export type CallTerms = Partial<
  Pick<
    OpCall,
    | "reduceOp"
    | "root"
    | "peer"
    | "tag"
    | "batched"
    | "inputSplits"
    | "outputSplits"
    | "waitAllRanks"
    | "continuation"
    | "stream"
    | "callSite"
  >
>;

let calls = 0;

/** Number for a call of an op; see {@link OpCall.id}. */
export function nextCallId(): number {
  return ++calls;
}

/** Makes a call. All calls have their fields in the same order, which keeps property access fast. */
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
    batched: terms.batched ?? false,
    waitAllRanks: terms.waitAllRanks ?? false,
    continuation: terms.continuation ?? false,
    timeoutMs,
    stream: terms.stream,
    callSite: terms.callSite,
  };
}

/** The stream that an op on a device starts after; undefined for the CPU. */
export function startOf({ device, stream }: OpCall): Stream | undefined {
  return device.type === "cpu" ? undefined : { device, handle: stream?.handle ?? 0 };
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
