export type {
  AllGatherObjectOptions,
  AllGatherOptions,
  AllReduceOptions,
  AllToAllListOptions,
  AllToAllSingleOptions,
  BarrierOptions,
  BroadcastObjectOptions,
  BroadcastOptions,
  CallOptions,
  GatherObjectOptions,
  GatherOptions,
  GatherSingleOptions,
  MonitoredBarrierCallOptions,
  ObjectOptions,
  RecvObjectOptions,
  RecvOptions,
  ReduceScatterOptions,
  ReduceToOptions,
  ScatterObjectOptions,
  ScatterOptions,
  SendObjectOptions,
  SendOptions,
} from "./arguments/call-options.ts";
export { abortAll, callAll, throwFirst } from "./group-life.ts";
export {
  type MessageFunction,
  type P2POp,
  type RefuseMessage,
  refuseBatch,
  requireBatch,
  standsFor,
} from "./message-batch.ts";
export { foreignFailure, ofForeign } from "./pipeline/foreign-failure.ts";
export { GuardedBackend } from "./pipeline/guarded-backend.ts";
export { closedQuietly, endBackend } from "./pipeline/limited-close.ts";
export { created, type MiddlewareSurroundings, Pipeline } from "./pipeline/pipeline.ts";
export type { BackendKey } from "./pipeline/pipelines.ts";
export { type OneOrList, ProcessGroup, type ProcessGroupInit } from "./process-group.ts";
