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
export { type DeviceBackend, type ProcessGroupInit, throwFirst } from "./group-lifecycle.ts";
export { type MessageFunction, type P2POp, refuseBatch, requireBatch, standsFor } from "./message-batch.ts";
export { ProcessGroup } from "./process-group.ts";
export type { OneOrList } from "./tensor-ops.ts";
