import type { RankTrace, TraceOp } from "../rank-trace.ts";

/**
 * PyTorch's Gloo backend makes some ops of several others, and numbers and records those. By the method that a Bun rank
 * calls: the collectives that PyTorch records instead, and how many numbers it uses.
 */
function asTorch(
  op: TraceOp,
  ranks: number,
): { readonly ops: readonly TraceOp[]; readonly numbers: number } | undefined {
  const allReduce = (size: readonly number[]): TraceOp => ({
    ...op,
    name: "all_reduce",
    kind: "all_reduce",
    inputSizes: [size],
    outputSizes: [size],
    outputDtypes: op.inputDtypes,
  });
  const { inputSizes } = op;
  if (op.api === "monitoredBarrier") return { ops: [], numbers: 2 };
  if (op.api === "reduceScatter") {
    // An all-reduce for each part. Parts of one size are recorded as their sum.
    const [[sum = 0] = []] = inputSizes;
    const parts = inputSizes.length === ranks ? inputSizes : Array.from({ length: ranks }, () => [sum / ranks]);
    return { ops: parts.map(allReduce), numbers: ranks };
  }
  if (op.api === "reduceScatterTensor") return { ops: inputSizes.map(allReduce), numbers: inputSizes.length };
  return undefined;
}

/**
 * The collectives of a Bun rank with the numbers and names that PyTorch's Gloo ranks have for them, to compare them in a
 * group of both; undefined if that is not possible, since ops that are overwritten may have counted differently.
 */
export function inTorchTerms(
  { dropped }: RankTrace,
  ops: readonly TraceOp[],
  ranks: number,
): readonly TraceOp[] | undefined {
  let shift = 0;
  const translated: TraceOp[] = [];
  for (const op of ops) {
    const torch = op.message === undefined ? asTorch(op, ranks) : undefined;
    if (torch === undefined) {
      translated.push(op.message === undefined ? { ...op, seq: op.seq + shift } : op);
      continue;
    }
    if (dropped > 0) return undefined;
    for (const [i, each] of torch.ops.entries()) translated.push({ ...each, seq: op.seq + shift + i });
    // A list of tensors has a number for each of them on both sides.
    shift += torch.numbers - (op.api === "reduceScatterTensor" ? torch.ops.length : 1);
  }
  return translated;
}

/** Whether a rank is one of PyTorch's in a Gloo group. */
export function isTorchGloo({ writer }: RankTrace, ops: readonly TraceOp[]): boolean {
  return writer === "pytorch" && ops[0]?.backend === "gloo";
}
