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

const pattern = new RegExp(`^(${deviceTypes.join("|")})(?::(\\d+))?$`);

/** A device by its name, `"cuda:1"`, or as it is; undefined for what is none. The CPU is one device, whose index is 0. */
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
 * @throws InvalidArgumentError for what is none.
 */
export function deviceOf(caller: string, device: string | Device): Device {
  const found = parseDevice(device);
  if (found !== undefined) return found;
  throw new InvalidArgumentError(
    `${caller}: deviceId must be a device such as "cuda:1" (${deviceTypes.join(", ")}), got ${describe(device)}`,
    { argument: "deviceId" },
  );
}
