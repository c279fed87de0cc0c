export { CudaError } from "../../errors/index.ts";
export { CudaEvent, type CudaEventOptions } from "./cuda-event.ts";
export { type CudaLibrary, loadCudaLibrary } from "./cuda-library.ts";
export {
  CudaStream,
  type CudaStreamOptions,
  currentStream,
  defaultStream,
  foreignStream,
  setStream,
  withStream,
} from "./cuda-stream.ts";
export { type CopyOptions, CudaTensor, type StreamOptions } from "./cuda-tensor.ts";
export type { MemoryStats } from "./device-memory.ts";
export type { CudaDeviceLike } from "./device-ordinal.ts";
export type { WaitOptions } from "./device-wait.ts";
export {
  type CudaDeviceInfo,
  type CudaProbe,
  currentDevice,
  device,
  deviceCount,
  isAvailable,
  probe,
  setDevice,
} from "./devices.ts";
export {
  empty,
  type ForeignMemory,
  foreign,
  from,
  type MakeOptions,
  type PinnedTensor,
  pinned,
  toHost,
  zeros,
} from "./make-tensor.ts";
export { type CudaMemoryStats, emptyCache, memoryStats } from "./memory-report.ts";
export type { StreamPriority } from "./stream-pool.ts";
export { synchronize, synchronizeSync } from "./synchronize.ts";
