import { hasEnded, type TraceOp } from "../rank-trace.ts";

/** Two collectives that were coalesced under one number, as one op. */
export function together(first: TraceOp | undefined, second: TraceOp): TraceOp {
  if (first === undefined) return second;
  return {
    ...first,
    kind: first.kind === second.kind ? first.kind : `${first.kind}+${second.kind}`,
    name: first.name === second.name ? first.name : `${first.name}+${second.name}`,
    inputSizes: [...first.inputSizes, ...second.inputSizes],
    outputSizes: [...first.outputSizes, ...second.outputSizes],
    inputDtypes: [...first.inputDtypes, ...second.inputDtypes],
    outputDtypes: [...first.outputDtypes, ...second.outputDtypes],
    state: hasEnded(first) ? second.state : first.state,
    error: first.error ?? second.error,
    finishedMs: second.finishedMs,
  };
}
