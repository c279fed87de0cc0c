import { describe, InvalidArgumentError } from "../errors/index.ts";

/** Numbers of the device types, as in c10's `DeviceType`. A process group has one backend for each type. */
export const deviceTypeCodes = { cpu: 0, cuda: 1 } as const;

/** A kind of device. */
export type DeviceType = keyof typeof deviceTypeCodes;

export const deviceTypes = Object.keys(deviceTypeCodes) as readonly DeviceType[];

/** Where a tensor's memory is. c10d: `torch.device`. */
export interface Device {
  readonly type: DeviceType;
  /** Ordinal of the device; 0 for the CPU. {@link ANY_INDEX} for a backend that is not bound to one. */
  readonly index: number;
}

/** A queue of work on a device, such as a CUDA stream. */
export interface Stream {
  readonly device: Device;
  /** Handle in the library of the device: for CUDA a `cudaStream_t`, where 0 is the default stream. */
  readonly handle: number;
}

/** The index of a backend's device if it takes tensors of all devices of the type. c10d: a device without an index. */
export const ANY_INDEX = -1;

export const CPU: Device = { type: "cpu", index: 0 };

export function isDeviceType(name: unknown): name is DeviceType {
  return (deviceTypes as readonly unknown[]).includes(name);
}

const pattern = new RegExp(`^(${deviceTypes.join("|")})(?::(\\d+))?$`);

/** A device from its name, such as `"cuda:1"`, or a {@link Device}; undefined if invalid. The CPU's only index is 0. */
export function parseDevice(device: unknown): Device | undefined {
  const name = typeof device === "string" ? device : nameOf(device);
  const [, type, ordinal = "0"] = pattern.exec(name) ?? [];
  const index = Number(ordinal);
  if (!isDeviceType(type) || !Number.isSafeInteger(index)) return undefined;
  if (type === "cpu") return index === 0 ? CPU : undefined;
  return { type, index };
}

function nameOf(device: unknown): string {
  const { type, index } = (device ?? {}) as Partial<Device>;
  return index === undefined ? `${type}` : `${type}:${index}`;
}

/**
 * The device that a caller gave.
 * @param currentIndex The ordinal of `"cuda"`; a number is one itself.
 * @throws InvalidArgumentError for an invalid device.
 */
export function deviceOf(caller: string, device: number | string | Device, currentIndex: () => number): Device {
  if (device === "cuda") return { type: "cuda", index: currentIndex() };
  const found = parseDevice(typeof device === "number" ? `cuda:${device}` : device);
  if (found !== undefined) return found;
  throw new InvalidArgumentError(
    `${caller}: deviceId must be a device such as "cuda:1" (${deviceTypes.join(", ")}), got ${describe(device)}`,
    { argument: "deviceId" },
  );
}
