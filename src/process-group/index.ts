export {
  type AllReduceOptions,
  type BarrierOptions,
  type BroadcastOptions,
  type CallOptions,
  type DeviceBackend,
  ProcessGroup,
  type ProcessGroupInit,
} from "./process-group.ts";
