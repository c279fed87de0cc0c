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
} from "./call-options.ts";
export { foreignFailure, ofForeign } from "./foreign-failure.ts";
export { abortAll, callAll, throwFirst } from "./group-life.ts";
export { GuardedBackend } from "./guarded-backend.ts";
export { closedQuietly, endBackend } from "./limited-close.ts";
export {
  type MessageFunction,
  type P2POp,
  type RefuseMessage,
  refuseBatch,
  requireBatch,
  standsFor,
} from "./message-batch.ts";
export { created, type MiddlewareSurroundings, Pipeline } from "./pipeline.ts";
export type { BackendKey } from "./pipelines.ts";
export { type OneOrList, ProcessGroup, type ProcessGroupInit } from "./process-group.ts";
