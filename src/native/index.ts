export { Mismatch, Service, Status } from "./abi.generated.ts";
export type { NativeCapabilities, NativeStats } from "./group-facts.ts";
export { descriptorsFor, type NativeGroupConfig } from "./group-handle.ts";
export { loadShim, type Shim, type ShimLocation } from "./library.ts";
export { type NativeFailure, ownFailure } from "./native-failure.ts";
export { NativeGroup, type NativeGroupHost, NativeRefusal, unsubmittedId } from "./native-group.ts";
export { NativeWork, type NativeWorkInit } from "./native-work.ts";
export { OpRecords, type OpTensors } from "./op-records.ts";
export { type StagedMemory, StagingArea } from "./staging-area.ts";
