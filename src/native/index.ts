export { Mismatch, Status } from "./abi.generated.ts";
export { loadShim, type Shim, type ShimLocation } from "./library.ts";
export { type NativeFailure, ownFailure } from "./native-failure.ts";
export {
  descriptorsFor,
  type NativeCapabilities,
  NativeGroup,
  type NativeGroupConfig,
  type NativeGroupHost,
  NativeRefusal,
  type NativeStats,
  unsubmittedId,
} from "./native-group.ts";
export { NativeWork, type NativeWorkInit } from "./native-work.ts";
export { OpRecords, type OpTensors } from "./op-records.ts";
export { type StagedMemory, StagingArea } from "./staging-area.ts";
