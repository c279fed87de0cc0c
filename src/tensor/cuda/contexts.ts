import { requireOrdinal } from "./device-ordinal.ts";
import { driver, requireSuccess, signed, wide, words } from "./driver.ts";

/** Primary contexts by ordinal: the same that the CUDA runtime, PyTorch and NCCL use. */
const contexts: (number | undefined)[] = [];
const devices: (number | undefined)[] = [];

/** `CUdevice` of a device. */
export function handleOfDevice(index: number): number {
  const { symbols } = driver();
  const result = words(2);
  const known = devices[index];
  if (known !== undefined) return known;
  requireOrdinal("CUDA", index);
  requireSuccess(symbols.cuDeviceGet(result, index), "cuDeviceGet");
  const handle = signed(result);
  devices[index] = handle;
  return handle;
}

/** The primary context of a device, which this process then keeps. */
export function contextOf(index: number): number {
  const known = contexts[index];
  if (known !== undefined) return known;
  const result = words(2);
  requireSuccess(driver().symbols.cuDevicePrimaryCtxRetain(result, handleOfDevice(index)), "cuDevicePrimaryCtxRetain");
  const context = wide(result);
  contexts[index] = context;
  return context;
}

/** Whether this thread has used a device. */
export function hasContext(index: number): boolean {
  return contexts[index] !== undefined;
}

/** A device that this thread has used; undefined if there is none. */
export function firstDevice(): number | undefined {
  const index = contexts.findIndex((each) => each !== undefined);
  return index < 0 ? undefined : index;
}

/**
 * Makes a device current for the calls that follow in this thread. Every time, since code of other libraries on this
 * thread may have chosen another one, and it costs less than any call that follows.
 */
export function useDevice(index: number): void {
  requireSuccess(driver().symbols.cuCtxSetCurrent(contextOf(index)), "cuCtxSetCurrent");
}
