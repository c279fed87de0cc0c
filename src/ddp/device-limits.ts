// What data parallelism cannot do with tensors of devices, found before anything is sent.
import { ReduceOp } from "../collectives/index.ts";
import { InvalidArgumentError, UnsupportedOperationError } from "../errors/index.ts";
import type { ProcessGroup } from "../process-group/index.ts";
import type { Device, DType } from "../tensor/index.ts";

/** Something whose memory is on a device. */
interface OnDevice {
  readonly name: string;
  readonly device: Device;
}

/** Whether memory is on a device other than the CPU. */
export function isOnDevice({ device }: { readonly device: Device }): boolean {
  return device.type !== "cpu";
}

/** Whether two devices are the same. */
export function isSameDevice(a: Device, b: Device): boolean {
  return a.type === b.type && a.index === b.index;
}

/** Name of a device, such as `cuda:0`. */
export function nameOfDevice({ type, index }: Device): string {
  return type === "cpu" ? type : `${type}:${index}`;
}

/** @throws InvalidArgumentError unless a group has a backend for host memory, and one for the device of each tensor. */
export function requireBackends(group: ProcessGroup, tensors: readonly OnDevice[]): void {
  const first = tensors.find(isOnDevice);
  if (first === undefined) return;
  if (!group.deviceTypes.includes("cpu")) {
    throw new InvalidArgumentError(
      `${first.name} is on ${nameOfDevice(first.device)}, and group "${group.name}" has no backend for cpu tensors, by which ranks ` +
        'compare their models and agree on buckets; make the group with both, for instance "cpu:gloo,cuda:nccl"',
      { argument: "group", group: group.name },
    );
  }
  // Throws for a device without a backend.
  for (const { device } of tensors) group.pipeline(device.type === "cpu" ? "cpu" : device);
}

/** Whether the backend of a group has an average of a dtype in the memory of a device. */
export function hasAverage(group: ProcessGroup, device: Device, dtype: DType): boolean {
  const { table } = group.pipeline(device.type === "cpu" ? undefined : device);
  return table.has("allReduce", dtype, ReduceOp.AVG);
}

/** An error for arithmetic that only the host does. */
export function computesOnHost(what: string, { name, device }: OnDevice, remedy: string): UnsupportedOperationError {
  return new UnsupportedOperationError(`${what}: ${name} is on ${nameOfDevice(device)}, where ${remedy}`, {
    argument: name,
  });
}

/** Why not all gradients on a device are averaged, and what to do; for {@link computesOnHost}. */
export const ranksThatAverage: string =
  "and ranks of PyTorch, or any that were not compared (initSync: false), divide before they sum; train with Bun ranks that are " +
  "compared, register a hook that averages, or keep the parameters in host memory";
