import { requireOrdinal } from "./device-ordinal.ts";
import { driver, requireSuccess, signed, wide, words } from "./driver.ts";
import type { DriverSymbols } from "./driver-symbols.ts";

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

const current = words(2);

/**
 * Calls the driver with a device as the current one of this thread. Other libraries on this thread, such as the CUDA
 * runtime, have a current device as well: it is theirs again afterwards.
 */
export function onDevice<T>(index: number, call: (symbols: DriverSymbols) => T): T {
  const { symbols } = driver();
  const context = contextOf(index);
  requireSuccess(symbols.cuCtxGetCurrent(current), "cuCtxGetCurrent");
  const before = wide(current);
  if (before === context) return call(symbols);
  requireSuccess(symbols.cuCtxSetCurrent(context), "cuCtxSetCurrent");
  try {
    return call(symbols);
  } finally {
    // It may have been destroyed meanwhile, which whoever uses it is told.
    symbols.cuCtxSetCurrent(before);
  }
}
