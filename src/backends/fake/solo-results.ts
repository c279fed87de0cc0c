import { dtypes } from "../../tensor/index.ts";
import type { CollectiveCall } from "./collective-call.ts";
import { copyOf } from "./element-bytes.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * What a collective of a rank without peers puts into its outputs, in their order: what it would be if every other rank
 * had given the same as this one, as far as that can be had without computing. c10d: `FakeProcessGroup`.
 *
 * - in place (all-reduce, broadcast, reduce): the tensor stays as it is
 * - gathering: the own input in every place
 * - scatter and reduce-scatter: the own part of the inputs, not scaled; on other ranks than the root, scatter leaves
 *   its output as it is
 * - all-to-all: each output is the input for that rank; with splits, each part is the start of the input
 */
export function soloResultsOf(call: CollectiveCall, rank: number, size: number): readonly Bytes[] {
  const inputs = call.inputs.map(copyOf);
  const [first = new Uint8Array(0)] = inputs;
  switch (call.name) {
    case "allGather":
    case "gather":
      return call.outputs.map(() => first);
    case "allGatherIntoTensor":
    case "allGatherIntoTensorCoalesced":
      return inputs.map((input) => repeat(input, size));
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
      return inputs.map((input, i) => input.slice(0, call.outputs[i]?.byteLength));
    case "allToAllSingle":
      return [startsOf(first, call)];
    default:
      return [];
  }
}

function repeat(bytes: Bytes, times: number): Bytes {
  const whole = new Uint8Array(bytes.byteLength * times);
  for (let i = 0; i < times; i++) whole.set(bytes, i * bytes.byteLength);
  return whole;
}

function startsOf(input: Bytes, { outputs, outputSplits = [] }: CollectiveCall): Bytes {
  const [output] = outputs;
  if (output === undefined || outputSplits.length === 0) return input;
  const whole = copyOf(output);
  let at = 0;
  for (const elements of outputSplits) {
    const bytes = elements * dtypes[output.dtype].size;
    whole.set(input.subarray(0, bytes), at);
    at += bytes;
  }
  return whole;
}
