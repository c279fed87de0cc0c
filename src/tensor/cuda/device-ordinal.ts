import { describe, InvalidArgumentError } from "../../errors/index.ts";
import { type Device, parseDevice } from "../device.ts";
import { driver } from "./driver.ts";

/** A CUDA device: its ordinal, a name such as `"cuda:1"` (`"cuda"` is the current one), or a `Device`. */
export type CudaDeviceLike = number | string | Device;

let current = 0;

/** Ordinal of the current device of this thread. */
export function currentOrdinal(): number {
  return current;
}

/** Makes a device the current one of this thread. */
export function setCurrentOrdinal(index: number): void {
  current = index;
}

/**
 * Ordinal of a device that a caller gave; by default the current one.
 * @throws InvalidArgumentError for what is no device, or not one of this machine.
 */
export function ordinalOf(caller: string, device: CudaDeviceLike | undefined): number {
  if (device === undefined || device === "cuda") return requireOrdinal(caller, current);
  if (typeof device === "number") return requireOrdinal(caller, device);
  const found = parseDevice(device);
  if (found?.type === "cuda") return requireOrdinal(caller, found.index);
  throw new InvalidArgumentError(
    `${caller}: device must be an ordinal or a name such as "cuda:1", got ${described(device)}`,
    { argument: "device" },
  );
}

/** @throws InvalidArgumentError unless this machine has a device of this number. */
export function requireOrdinal(caller: string, index: number): number {
  const { deviceCount } = driver();
  if (Number.isInteger(index) && index >= 0 && index < deviceCount) return index;
  const has = deviceCount === 1 ? "one device, cuda:0" : `${deviceCount} devices, cuda:0 to cuda:${deviceCount - 1}`;
  throw new InvalidArgumentError(`${caller}: there is no device ${index}; the driver sees ${has}`, {
    argument: "device",
    code: "NO_SUCH_DEVICE",
  });
}

/** The devices, made once each, so that they can be compared by identity. */
const named: Device[] = [];

export function deviceNamed(index: number): Device {
  const device = named[index] ?? Object.freeze({ type: "cuda", index } as const);
  named[index] = device;
  return device;
}

function described(device: unknown): string {
  const { type, index } = (device ?? {}) as Partial<Device>;
  return typeof device === "object" && type !== undefined ? `${type}:${index}` : describe(device);
}
