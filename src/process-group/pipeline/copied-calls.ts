import type { OpCall } from "../../collectives/index.ts";

/**
 * Copies calls for user code, which may change them, their lists of tensors, and the list itself: the submitter keeps
 * using the originals.
 */
export function copiedCalls(calls: readonly OpCall[]): readonly OpCall[] {
  return calls.map((call) => ({ ...call, inputs: call.inputs.slice(), outputs: call.outputs.slice() }));
}
