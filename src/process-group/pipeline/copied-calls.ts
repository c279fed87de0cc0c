import type { OpCall } from "../../collectives/index.ts";

/**
 * Calls for code of a user's own, which may change them, their lists of tensors, and the list that they come in: whoever submits them
 * goes on with what it has itself.
 */
export function handedCalls(calls: readonly OpCall[]): readonly OpCall[] {
  return calls.map((call) => ({ ...call, inputs: call.inputs.slice(), outputs: call.outputs.slice() }));
}
