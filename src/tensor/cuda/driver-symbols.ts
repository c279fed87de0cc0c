import type { FFIFunction } from "bun:ffi";

/** Memory that the driver writes results to: its address never changes. */
type Out = Uint32Array<ArrayBuffer>;
/** A `CUresult`: 0 is success. */
type Result = number;

/** What this package calls of the driver API. Handles, addresses and sizes are numbers. */
export interface DriverSymbols {
  cuInit(flags: number): Result;
  cuDriverGetVersion(version: Out): Result;
  cuGetErrorName(error: number, text: Out): Result;
  cuGetErrorString(error: number, text: Out): Result;
  cuDeviceGetCount(count: Out): Result;
  cuDeviceGet(device: Out, ordinal: number): Result;
  cuDeviceGetName(name: Uint8Array, capacity: number, device: number): Result;
  cuDeviceTotalMem_v2(bytes: Out, device: number): Result;
  cuDeviceGetAttribute(value: Out, attribute: number, device: number): Result;
  cuDevicePrimaryCtxRetain(context: Out, device: number): Result;
  cuCtxGetCurrent(context: Out): Result;
  cuCtxSetCurrent(context: number): Result;
  cuCtxGetStreamPriorityRange(least: Out, greatest: Out): Result;
  cuMemGetInfo_v2(free: Out, total: Out): Result;
  cuMemAlloc_v2(address: Out, bytes: number): Result;
  cuMemFree_v2(address: number): Result;
  cuMemHostAlloc(address: Out, bytes: number, flags: number): Result;
  cuMemFreeHost(address: number): Result;
  cuPointerGetAttribute(value: Out, attribute: number, address: number): Result;
  cuMemcpyHtoDAsync_v2(to: number, from: number, bytes: number, stream: number): Result;
  cuMemcpyDtoHAsync_v2(to: number, from: number, bytes: number, stream: number): Result;
  cuMemcpyDtoDAsync_v2(to: number, from: number, bytes: number, stream: number): Result;
  cuMemcpyPeerAsync(
    to: number,
    toContext: number,
    from: number,
    fromContext: number,
    bytes: number,
    stream: number,
  ): Result;
  cuMemsetD8Async(to: number, byte: number, count: number, stream: number): Result;
  cuStreamCreateWithPriority(stream: Out, flags: number, priority: number): Result;
  cuStreamGetCtx(stream: number, context: Out): Result;
  cuStreamQuery(stream: number): Result;
  cuStreamWaitEvent(stream: number, event: number, flags: number): Result;
  cuEventCreate(event: Out, flags: number): Result;
  cuEventDestroy_v2(event: number): Result;
  cuEventRecord(event: number, stream: number): Result;
  cuEventQuery(event: number): Result;
  cuEventElapsedTime(milliseconds: Out, from: number, to: number): Result;
}

const returns = "i32";

/** Names and types of the symbols, as `dlopen` takes them. The suffixes are those that cuda.h maps the names to. */
export const declarations = {
  cuInit: { args: ["u32"], returns },
  cuDriverGetVersion: { args: ["ptr"], returns },
  cuGetErrorName: { args: ["i32", "ptr"], returns },
  cuGetErrorString: { args: ["i32", "ptr"], returns },
  cuDeviceGetCount: { args: ["ptr"], returns },
  cuDeviceGet: { args: ["ptr", "i32"], returns },
  cuDeviceGetName: { args: ["ptr", "i32", "i32"], returns },
  cuDeviceTotalMem_v2: { args: ["ptr", "i32"], returns },
  cuDeviceGetAttribute: { args: ["ptr", "i32", "i32"], returns },
  cuDevicePrimaryCtxRetain: { args: ["ptr", "i32"], returns },
  cuCtxGetCurrent: { args: ["ptr"], returns },
  cuCtxSetCurrent: { args: ["ptr"], returns },
  cuCtxGetStreamPriorityRange: { args: ["ptr", "ptr"], returns },
  cuMemGetInfo_v2: { args: ["ptr", "ptr"], returns },
  cuMemAlloc_v2: { args: ["ptr", "u64"], returns },
  cuMemFree_v2: { args: ["u64"], returns },
  cuMemHostAlloc: { args: ["ptr", "u64", "u32"], returns },
  cuMemFreeHost: { args: ["ptr"], returns },
  cuPointerGetAttribute: { args: ["ptr", "i32", "u64"], returns },
  cuMemcpyHtoDAsync_v2: { args: ["u64", "ptr", "u64", "ptr"], returns },
  cuMemcpyDtoHAsync_v2: { args: ["ptr", "u64", "u64", "ptr"], returns },
  cuMemcpyDtoDAsync_v2: { args: ["u64", "u64", "u64", "ptr"], returns },
  cuMemcpyPeerAsync: { args: ["u64", "ptr", "u64", "ptr", "u64", "ptr"], returns },
  cuMemsetD8Async: { args: ["u64", "u8", "u64", "ptr"], returns },
  cuStreamCreateWithPriority: { args: ["ptr", "u32", "i32"], returns },
  cuStreamGetCtx: { args: ["ptr", "ptr"], returns },
  cuStreamQuery: { args: ["ptr"], returns },
  cuStreamWaitEvent: { args: ["ptr", "ptr", "u32"], returns },
  cuEventCreate: { args: ["ptr", "u32"], returns },
  cuEventDestroy_v2: { args: ["ptr"], returns },
  cuEventRecord: { args: ["ptr", "ptr"], returns },
  cuEventQuery: { args: ["ptr"], returns },
  cuEventElapsedTime: { args: ["ptr", "ptr", "ptr"], returns },
} as const satisfies Record<keyof DriverSymbols, FFIFunction>;

/** Values of `CUresult` that this package distinguishes. */
export const Result = {
  SUCCESS: 0,
  INVALID_VALUE: 1,
  OUT_OF_MEMORY: 2,
  NOT_INITIALIZED: 3,
  DEINITIALIZED: 4,
  STUB_LIBRARY: 34,
  DEVICE_UNAVAILABLE: 46,
  NO_DEVICE: 100,
  INVALID_DEVICE: 101,
  INVALID_CONTEXT: 201,
  INVALID_HANDLE: 400,
  NOT_READY: 600,
  SYSTEM_NOT_READY: 802,
  SYSTEM_DRIVER_MISMATCH: 803,
  COMPAT_NOT_SUPPORTED_ON_DEVICE: 804,
} as const;
