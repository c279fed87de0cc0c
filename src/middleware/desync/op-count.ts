import { type OpCall, opTable } from "../../collectives/index.ts";

/** Numbers the ops of a group. */
export interface OpCount {
  /** How much an op adds to the numbers of those after it. */
  of(call: OpCall): number;
  /** Whether the ranks compare an op. */
  compares(call: OpCall): boolean;
}

/** Every collective counts, refused ones too: a rank that alone refuses one is found out by the next. */
export const ownCount: OpCount = {
  of: ({ op, continuation }) => (opTable[op].kind === "message" || continuation ? 0 : 1),
  compares: ({ op, continuation }) => opTable[op].kind === "collective" && op !== "monitoredBarrier" && !continuation,
};

/**
 * As PyTorch's Gloo groups count, where a message counts, too, and some ops several times.
 * @param size Number of ranks.
 * @param rootIsForeign Whether rank 0 runs PyTorch. That rank counts each message of a `monitoredBarrier`.
 */
export function pytorchCount(size: number, rootIsForeign: boolean): OpCount {
  return {
    of({ op, continuation }) {
      if (op === "refused" || continuation) return 0;
      if (op === "reduceScatter") return size;
      if (op === "monitoredBarrier") return rootIsForeign ? 2 * (size - 1) : 2;
      return 1;
    },
    // PyTorch 2.13 lets this op pass.
    compares: (call) => ownCount.compares(call) && call.op !== "allGatherIntoTensorCoalesced",
  };
}
