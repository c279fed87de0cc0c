import type { Operation } from "../collectives/index.ts";

/** How the sizes of a list of tensors are written: one for each tensor, or one for all, their sum. */
export type SizeForm = "each" | "sum";

/** An op in a dump of PyTorch's flight recorder. */
export interface TorchOp {
  /** `torchfrtrace` knows the ops by these names, and fails for others. */
  readonly name: string;
  readonly inputs: SizeForm;
  readonly outputs: SizeForm;
}

const op = (name: string, inputs: SizeForm = "each", outputs: SizeForm = "each"): TorchOp => ({
  name,
  inputs,
  outputs,
});

/** The names and forms with which `torchfrtrace` finds nothing wrong in a healthy job. */
export const torchOps: Readonly<Record<Operation, TorchOp>> = {
  allReduce: op("all_reduce"),
  allReduceCoalesced: op("allreduce_coalesced"),
  allReduceSparse: op("all_reduce"),
  broadcast: op("broadcast"),
  reduce: op("reduce"),
  allGather: op("all_gather", "each", "sum"),
  allGatherIntoTensor: op("_all_gather_base"),
  allGatherIntoTensorCoalesced: op("all_gather_into_tensor_coalesced"),
  gather: op("gather", "each", "sum"),
  gatherSingle: op("gather"),
  scatter: op("scatter", "sum", "each"),
  reduceScatter: op("reduce_scatter", "sum", "each"),
  reduceScatterTensor: op("_reduce_scatter_base"),
  reduceScatterTensorCoalesced: op("reduce_scatter_tensor_coalesced"),
  allToAll: op("all_to_all", "sum", "sum"),
  allToAllSingle: op("all_to_all"),
  send: op("send"),
  recv: op("recv"),
  barrier: op("barrier"),
  monitoredBarrier: op("barrier"),
};

/** Parts of different lengths: own lengths differ between ranks, so that no output size may be written. */
export const unequalReduceScatter: TorchOp = op("reduce_scatter_v");

/** The ops on objects, by the method that the user calls. They have no sizes. */
export const torchObjectOps: Readonly<Record<string, string>> = {
  allGatherObject: "all_gather",
  broadcastObject: "broadcast",
  gatherObject: "gather",
  scatterObject: "scatter",
  // Of sparse tensors.
  allReduce: "all_reduce",
  sendObject: "send",
  recvObject: "recv",
};

/** Backends that `torchfrtrace` knows; others go by the name of the first one there. */
const knownBackends = ["gloo", "nccl", "xccl"];

/** The backend's name in the `profiling_name` of a dump. */
export function torchBackend(name: string): string {
  return knownBackends.includes(name) ? name : "gloo";
}
