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
export type { DeviceBackend, ProcessGroupInit } from "./group-lifecycle.ts";
export { ProcessGroup } from "./process-group.ts";
export type { OneOrList } from "./tensor-ops.ts";
