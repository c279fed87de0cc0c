/**
 * Cases of the conformance suite that NCCL itself cannot pass, with PyTorch's calls as little as with these: its messages
 * have no tags, and are in the order of the other ops, so that two which cross wait for each other unless they are in a
 * batch.
 */
export const ncclLimits = [
  {
    reason: "NCCL's messages have no tags",
    tests: ["send and recv > tags tell messages apart"],
  },
  {
    reason: "messages that cross have to be in a batch",
    tests: ["send and recv > round the ring, every dtype and size"],
  },
] as const;
