import { Service } from "../../native/index.ts";
import type { MemoryServices } from "../../registry/index.ts";
import type { TensorView } from "../../tensor/index.ts";
import type { Work } from "../../work/index.ts";

/** Submits a service of the shim ABI. */
export type SubmitService = (service: number, op: string, memory: TensorView, timeoutMs: number) => Work<void>;

/** The services that a native group reports, as bits by their numbers. Undefined if there are none. */
export function memoryServices(
  bits: bigint,
  submit: SubmitService,
  addressInWindow: NonNullable<MemoryServices["addressInWindow"]>,
): MemoryServices | undefined {
  if (bits === 0n) return undefined;
  const named = (service: number, op: string) => {
    if (((bits >> BigInt(service)) & 1n) === 0n) return undefined;
    return (memory: TensorView, timeoutMs: number) => submit(service, op, memory, timeoutMs);
  };
  const register = named(Service.REGISTER_MEMORY, "registerMemory");
  const deregister = named(Service.DEREGISTER_MEMORY, "deregisterMemory");
  const openWindow = named(Service.OPEN_WINDOW, "openWindow");
  const closeWindow = named(Service.CLOSE_WINDOW, "closeWindow");
  return {
    ...(register && { register }),
    ...(deregister && { deregister }),
    ...(openWindow && { openWindow, addressInWindow }),
    ...(closeWindow && { closeWindow }),
  };
}
