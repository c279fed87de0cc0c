import { BackendUnavailableError, DistError, messageOf } from "../../errors/index.ts";
import { handleOfDevice, onDevice } from "./contexts.ts";
import { type CudaDeviceLike, currentOrdinal, ordinalOf, setCurrentOrdinal } from "./device-ordinal.ts";
import { driver, requireSuccess, signed, wide, words } from "./driver.ts";

/** Attributes of a device, as `CUdevice_attribute` numbers them. */
const COMPUTE_CAPABILITY_MAJOR = 75;
const COMPUTE_CAPABILITY_MINOR = 76;
const NAME_BYTES = 256;

/** A device of this machine. */
export interface CudaDeviceInfo {
  readonly index: number;
  readonly name: string;
  /** Bytes of memory. */
  readonly totalMemory: number;
  /** Major and minor number, such as `[9, 0]`. */
  readonly computeCapability: readonly [major: number, minor: number];
  /** Bytes that are free now. Reading it creates the device's context, as every use of the device does. */
  readonly freeMemory: number;
}

/** Whether CUDA can be used, and if not, why. */
export interface CudaProbe {
  readonly available: boolean;
  /** Why it cannot be used. */
  readonly reason?: string;
  /** What kind of reason: `NO_CUDA_DRIVER`, `NO_CUDA_DEVICE`, `UNTRUSTED_LIBRARY`, `CUDA_ERROR` … */
  readonly code?: string;
  /** What to do about it. */
  readonly remedy?: string;
  /** The driver's library. */
  readonly library?: string;
  /** The CUDA version that the driver supports, such as `"12.8"`. */
  readonly driverVersion?: string;
  readonly devices: readonly Omit<CudaDeviceInfo, "freeMemory">[];
}

/** Whether there is a driver with a device. Never throws. c10d: `torch.cuda.is_available`. */
export function isAvailable(): boolean {
  try {
    return driver().deviceCount > 0;
  } catch {
    return false;
  }
}

/** Whether CUDA can be used here, with driver and devices, or why not. Never throws. */
export function probe(): CudaProbe {
  try {
    const { path: library, version: driverVersion, deviceCount: count } = driver();
    return { available: true, library, driverVersion, devices: Array.from({ length: count }, (_, i) => factsOf(i)) };
  } catch (error) {
    const [reason = "", ...lines] = messageOf(error).split("\n");
    const remedy = error instanceof BackendUnavailableError ? lines.pop() : undefined;
    return {
      available: false,
      reason: [reason, ...lines].join("\n"),
      code: error instanceof DistError ? error.code : "CUDA_ERROR",
      ...(remedy !== undefined && { remedy }),
      devices: [],
    };
  }
}

/** Number of devices; 0 if CUDA cannot be used. c10d: `torch.cuda.device_count`. */
export function deviceCount(): number {
  return isAvailable() ? driver().deviceCount : 0;
}

/** A device of this machine; by default the current one. c10d: `torch.cuda.get_device_properties`. */
export function device(which?: CudaDeviceLike): CudaDeviceInfo {
  const index = ordinalOf("cuda.device", which);
  return {
    ...factsOf(index),
    get freeMemory() {
      const [free, total] = [words(2), words(2)];
      requireSuccess(
        onDevice(index, (symbols) => symbols.cuMemGetInfo_v2(free, total)),
        "cuMemGetInfo_v2",
      );
      return wide(free);
    },
  };
}

function factsOf(index: number): Omit<CudaDeviceInfo, "freeMemory"> {
  const { symbols } = driver();
  const handle = handleOfDevice(index);
  const name = new Uint8Array(new ArrayBuffer(NAME_BYTES));
  requireSuccess(symbols.cuDeviceGetName(name, NAME_BYTES, handle), "cuDeviceGetName");
  const bytes = words(2);
  requireSuccess(symbols.cuDeviceTotalMem_v2(bytes, handle), "cuDeviceTotalMem_v2");
  const attribute = (number: number): number => {
    const value = words(2);
    requireSuccess(symbols.cuDeviceGetAttribute(value, number, handle), "cuDeviceGetAttribute");
    return signed(value);
  };
  return {
    index,
    name: new TextDecoder().decode(name.subarray(0, name.indexOf(0))),
    totalMemory: wide(bytes),
    computeCapability: [attribute(COMPUTE_CAPABILITY_MAJOR), attribute(COMPUTE_CAPABILITY_MINOR)],
  };
}

/** Makes a device the current one of this thread: the default of what takes a device. c10d: `torch.cuda.set_device`. */
export function setDevice(device: CudaDeviceLike): void {
  setCurrentOrdinal(ordinalOf("cuda.setDevice", device));
}

/** Ordinal of the current device of this thread, 0 at first. c10d: `torch.cuda.current_device`. */
export function currentDevice(): number {
  return currentOrdinal();
}
