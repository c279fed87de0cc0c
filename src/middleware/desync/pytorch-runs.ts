import { type OpCall, opCall } from "../../collectives/index.ts";

/**
 * The collectives of a batch as PyTorch's ranks call them: one by one, but for reduce-scatters of one kind in a row,
 * which are one op there.
 */
export function pytorchRuns(calls: readonly OpCall[]): readonly (readonly OpCall[])[] {
  const runs: OpCall[][] = [];
  for (const call of calls) {
    const [first] = runs.at(-1) ?? [];
    const goesOn = first?.op === "reduceScatterTensor" && call.op === first.op && call.reduceOp === first.reduceOp;
    if (goesOn) runs.at(-1)?.push(call);
    else runs.push([call]);
  }
  return runs;
}

/** The one op that a run is. */
export function callOfRun(run: readonly OpCall[]): OpCall | undefined {
  const [first] = run;
  if (first === undefined || run.length === 1) return first;
  const inputs = run.flatMap((call) => call.inputs);
  const outputs = run.flatMap((call) => call.outputs);
  return opCall("reduceScatterTensorCoalesced", first.device, inputs, outputs, first.timeoutMs);
}
