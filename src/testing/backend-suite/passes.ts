import { InvalidArgumentError } from "../../errors/index.ts";
import type { BackendPlugin } from "../../registry/index.ts";
import type { SuiteMemory } from "./device-memory.ts";
import { deviceSetting, placelessSettings, type Setting } from "./settings.ts";
import type { SuiteTerms } from "./suite-case.ts";

/** Settings whose tensors are in the same memory: the ranks run them with one default group. */
export interface Pass {
  readonly settings: readonly Setting[];
  /** Undefined for host memory. */
  readonly memory: SuiteMemory | undefined;
  readonly terms: Required<Pick<SuiteTerms, "onDevice" | "isHostless">>;
}

/**
 * How the suite runs its settings: in host memory if the backend takes that, and again on a device; otherwise all of
 * them on the device.
 *
 * @throws InvalidArgumentError if the backend does not take the given memory.
 */
export function passesOf({ name, devices }: BackendPlugin, memory: SuiteMemory | undefined): readonly Pass[] {
  const isHostless = !devices.includes("cpu");
  const list = devices.join(", ");
  const fault =
    memory === undefined
      ? isHostless && `backend "${name}" takes no tensors in host memory: give the memory of its devices (${list})`
      : !devices.includes(memory.device) && `backend "${name}" takes tensors of ${list}, not of ${memory.device}`;
  if (fault) throw new InvalidArgumentError(`testBackend: ${fault}`, { argument: "memory", backend: name });
  const inHost: Pass = {
    settings: placelessSettings,
    memory: undefined,
    terms: { onDevice: false, isHostless: false },
  };
  if (memory === undefined) return [inHost];
  const terms = { onDevice: true, isHostless };
  if (isHostless) return [{ settings: placelessSettings, memory, terms }];
  return [inHost, { settings: [deviceSetting], memory, terms }];
}

/** Why no case runs on a group that is bound to a device with an index; undefined if some do. */
export function whyNoDeviceIndex({ devices }: BackendPlugin, memory: SuiteMemory | undefined): string | undefined {
  if (memory !== undefined) return undefined;
  const others = devices.filter((device) => device !== "cpu");
  return others.length === 0
    ? "its tensors are in host memory, which is one device"
    : `no memory of ${others.join(" or ")} was given to testBackend()`;
}
