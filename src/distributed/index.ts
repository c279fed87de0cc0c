export { batchIsendIrecv, type P2POp } from "./batch-isend-irecv.ts";
export {
  allGather,
  allGatherIntoTensor,
  allReduce,
  allToAll,
  allToAllSingle,
  barrier,
  broadcast,
  coalescing,
  gather,
  gatherSingle,
  type InGroup,
  irecv,
  isend,
  monitoredBarrier,
  recv,
  reduce,
  reduceScatter,
  reduceScatterTensor,
  scatter,
  send,
} from "./collectives.ts";
export { DEFAULT_PG_NCCL_TIMEOUT, DEFAULT_PG_TIMEOUT } from "./default-timeouts.ts";
export { type DumpTraceOptions, dumpTrace } from "./dump-trace.ts";
export { type NewGroupOptions, newGroup } from "./groups/new-group.ts";
export { roundRobinProcessGroups } from "./groups/round-robin-process-groups.ts";
export { type SplitGroupOptions, splitGroup } from "./groups/split-group.ts";
export type { InitOptions } from "./init-options.ts";
export { destroyProcessGroup, initProcessGroup } from "./init-process-group.ts";
export { getNodeLocalRank } from "./node-local-rank.ts";
export {
  allGatherObject,
  broadcastObject,
  gatherObject,
  recvObject,
  scatterObject,
  sendObject,
} from "./objects.ts";
export { getBackend, getGlobalRank, getGroupRank, getRank, getWorldSize, isInitialized } from "./queries.ts";
export { type MeetingOptions, registerRendezvousHandler, rendezvous } from "./rendezvous.ts";
