import { DistError, messageOf } from "../../errors/index.ts";
import { loadShim, type Shim } from "../../native/index.ts";
import type { Availability } from "../../registry/index.ts";
import { type CudaProbe, probe as probeCuda } from "../../tensor/cuda/index.ts";
import { loadNccl, type NcclLibrary, remedyFor } from "./nccl-library.ts";
import { versionText } from "./nccl-version.ts";

export const SHIM_REMEDY =
  "Build the shim: bun c10d build, or in a clone ./bootstrap build (it needs g++, cmake and ninja-build, neither CUDA nor NCCL).";
/** c10d's text. */
export const NO_DEVICE = "ProcessGroupNCCL is only supported with GPUs, no GPUs found!";
const DEVICE_REMEDY = "nvidia-smi shows which devices there are; CUDA_VISIBLE_DEVICES can hide them.";

/** What {@link probeNccl} looks at. */
export interface NcclParts {
  cuda(): CudaProbe;
  /** @param option The path that the user's options name. */
  library(option: string | undefined): NcclLibrary;
  shim(): Shim;
}

const ownParts: NcclParts = {
  cuda: probeCuda,
  library: loadNccl,
  shim: () => loadShim({ name: "nccl", remedy: "" }),
};

/** Whether the backend can run here: the driver and its devices, then NCCL, then the shim. */
export function probeNccl(library?: string, parts: NcclParts = ownParts): Availability {
  const cuda = parts.cuda();
  if (!cuda.available) {
    const { reason = "", remedy = DEVICE_REMEDY } = cuda;
    return { available: false, reason: `${NO_DEVICE} ${reason}`, remedy };
  }
  let found: NcclLibrary;
  try {
    found = parts.library(library);
  } catch (error) {
    return { available: false, reason: reasonOf(error), remedy: remedyFor(error) };
  }
  try {
    const { path, abi } = parts.shim();
    return { available: true, version: nameOf(found), library: { path, abi }, detail: detailOf(cuda, found) };
  } catch (error) {
    return { available: false, reason: reasonOf(error), remedy: SHIM_REMEDY };
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof DistError)) throw error;
  return messageOf(error);
}

function nameOf({ version, emulator }: NcclLibrary): string {
  return emulator ?? `NCCL ${versionText(version)}`;
}

function detailOf({ driverVersion, devices }: CudaProbe, { path, emulator }: NcclLibrary): string {
  const counts = [...Map.groupBy(devices, ({ name }) => name)].map(([name, { length }]) => `${length} × ${name}`);
  const what = emulator === undefined ? "" : " (an emulator, for tests: no GPU)";
  return `${path}${what}, CUDA ${driverVersion}, ${counts.join(", ")}`;
}
