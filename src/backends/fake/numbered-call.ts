import { type OpCall, type Operation, opTable } from "../../collectives/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import { copied } from "./element-bytes.ts";

/** Ops that all ranks of a group call, in one order. */
export type Collective = Exclude<Operation, "send" | "recv">;

/** A call of one rank in a collective. */
export interface CollectiveCall extends OpCall {
  readonly op: Collective;
}

export function isCollective(call: OpCall): call is CollectiveCall {
  return opTable[call.op].kind === "collective";
}

/** What the other ranks see of a {@link CollectiveCall}. */
export interface NumberedCall
  extends Pick<CollectiveCall, "op" | "inputs" | "outputs" | "reduceOp" | "root" | "inputSplits" | "outputSplits"> {
  /** Position among the calls of its rank, from 1, counting refused ones. */
  readonly number: number;
}

/** Adds the number to a call, and copies what it reads, so that it may be detached later. */
export function numberedCall(call: CollectiveCall, number: number): NumberedCall {
  const { op, outputs, reduceOp, root, inputSplits, outputSplits } = call;
  return {
    op,
    inputs: call.inputs.map(copied),
    outputs: opTable[op].inPlace ? outputs.map(copied) : outputs,
    reduceOp,
    root,
    inputSplits,
    outputSplits,
    number,
  };
}

/** The tensors that a call reads: of an op in place, those that it writes to. */
export function readBy({ op, inputs, outputs }: Pick<OpCall, "op" | "inputs" | "outputs">): readonly TensorView[] {
  return opTable[op].inPlace ? outputs : inputs;
}
