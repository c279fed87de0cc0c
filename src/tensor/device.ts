/** Kinds of memory a tensor can live in. A process group maps each kind to one backend. */
export type DeviceType = "cpu" | "cuda";

/** Where a tensor's memory is. c10d: `torch.device`. */
export interface Device {
  readonly type: DeviceType;
  /** Ordinal of the device; 0 for the CPU. */
  readonly index: number;
}

export const CPU: Device = { type: "cpu", index: 0 };
