import type { OpCall } from "../../collectives/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import { copyOf } from "./element-bytes.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * What a collective of a rank without peers puts into its outputs, in their order: the result if every other rank
 * passed the same inputs, as far as that needs no arithmetic. c10d: `FakeProcessGroup`.
 *
 * - in place (all-reduce, broadcast, reduce): the tensor is unchanged
 * - gathering, and the steps of a sparse all-reduce: the rank's own input in every slot
 * - scatter and reduce-scatter: the rank's own part of the inputs, not scaled; on ranks other than the root, scatter
 *   leaves its output unchanged
 * - all-to-all: each output is the input for that rank; with splits, each part is the start of the input
 */
export function soloResultsOf(call: OpCall, rank: number, size: number): readonly Bytes[] {
  const { outputs, outputSplits } = call;
  const inputs = call.inputs.map(copyOf);
  const [first = new Uint8Array(0)] = inputs;
  switch (call.op) {
    case "allGather":
    case "gather":
      return outputs.map(() => first);
    case "allGatherIntoTensor":
    case "allGatherIntoTensorCoalesced":
      return inputs.map((input) => repeat(input, size));
    case "gatherSingle":
      return outputs.map(() => repeat(first, size));
    case "scatter":
    case "reduceScatter":
      return inputs.slice(rank, rank + 1);
    case "reduceScatterTensor":
    case "reduceScatterTensorCoalesced":
      return inputs.map((input) => {
        const bytes = input.byteLength / size;
        return input.slice(rank * bytes, (rank + 1) * bytes);
      });
    case "allToAll":
      return inputs.map((input, i) => input.slice(0, outputs[i]?.byteLength));
    case "allToAllSingle":
      return outputSplits === undefined ? inputs : outputs.map((output) => startsOf(first, output, outputSplits));
    case "allReduceSparse":
      return outputs.map((output, i) => {
        const input = inputs[i] ?? first;
        return outputSplits === undefined ? repeat(input, size) : startsOf(input, output, outputSplits);
      });
    default:
      return [];
  }
}

function repeat(bytes: Bytes, times: number): Bytes {
  const whole = new Uint8Array(bytes.byteLength * times);
  for (let i = 0; i < times; i++) whole.set(bytes, i * bytes.byteLength);
  return whole;
}

/** Fills an output whose parts are as long as the splits say, each with the start of the input. */
function startsOf(input: Bytes, output: TensorView, splits: readonly number[]): Bytes {
  const whole = copyOf(output);
  const total = splits.reduce((sum, split) => sum + split, 0);
  let at = 0;
  for (const split of splits) {
    const bytes = split === 0 ? 0 : (output.byteLength / total) * split;
    whole.set(input.subarray(0, bytes), at);
    at += bytes;
  }
  return whole;
}
