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
export { MemoryWindow, RegisteredMemory } from "./group-memory.ts";
export { type OpChannels, type OpMessage, opChannels } from "./hooks/op-channels.ts";
export type {
  AbortHookEvent,
  CompletedOp,
  CompletionHook,
  OpHooks,
  PostHookEvent,
  PreHookEvent,
} from "./hooks/op-hooks.ts";
export {
  type MessageFunction,
  type P2POp,
  type RefuseMessage,
  refuseBatch,
  requireBatch,
  standsFor,
} from "./message-batch.ts";
export { closeQuietly, endBackend } from "./pipeline/close-within.ts";
export { GuardedBackend } from "./pipeline/guarded-backend.ts";
export { created, type MiddlewareHost, Pipeline } from "./pipeline/pipeline.ts";
export type { BackendKey } from "./pipeline/pipelines.ts";
export { callUserFunction, userCodeFailure } from "./pipeline/user-code-failure.ts";
export { type OneOrList, ProcessGroup, type ProcessGroupInit } from "./process-group.ts";
export { writeTraceFiles } from "./trace-files.ts";
