export type {
  AllGatherOptions,
  AllReduceOptions,
  AllToAllListOptions,
  AllToAllSingleOptions,
  BarrierOptions,
  BroadcastOptions,
  CallOptions,
  GatherOptions,
  MonitoredBarrierCallOptions,
  RecvOptions,
  ReduceScatterOptions,
  ReduceToOptions,
  ScatterOptions,
  SendOptions,
} from "./call-options.ts";
export type { DeviceBackend, ProcessGroupInit } from "./group-lifecycle.ts";
export { ProcessGroup } from "./process-group.ts";
