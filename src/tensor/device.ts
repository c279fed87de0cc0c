import { describe, InvalidArgumentError } from "../errors/index.ts";

/** Kinds of memory a tensor can live in. A process group has one backend for each kind. */
export const deviceTypes = ["cpu", "cuda"] as const;

/** A kind of device. */
export type DeviceType = (typeof deviceTypes)[number];

/** Where a tensor's memory is. c10d: `torch.device`. */
export interface Device {
  readonly type: DeviceType;
  /** Ordinal of the device; 0 for the CPU. */
  readonly index: number;
}

export const CPU: Device = { type: "cpu", index: 0 };

export function isDeviceType(name: unknown): name is DeviceType {
  return (deviceTypes as readonly unknown[]).includes(name);
}

/**
 * A device by its name, `"cuda:1"`, or as it is.
 * @throws InvalidArgumentError for anything else.
 */
export function deviceOf(caller: string, device: string | Device): Device {
  const [type, ordinal = "0", ...rest] = typeof device === "string" ? device.split(":") : [device?.type, device?.index];
  const index = Number(ordinal);
  const isOrdinal = Number.isSafeInteger(index) && index >= 0 && String(ordinal).trim() !== "";
  if (isDeviceType(type) && isOrdinal && rest.length === 0) return { type, index };
  throw new InvalidArgumentError(
    `${caller}: deviceId must be a device such as "cuda:1" (${deviceTypes.join(", ")}), got ${describe(device)}`,
    { argument: "deviceId" },
  );
}
