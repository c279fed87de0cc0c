import { existsSync } from "node:fs";
import { environmentText, processEnvironment } from "../environment/index.ts";
import type { BackendRegistry, SettleLimit } from "../registry/index.ts";
import type { DeviceType } from "../tensor/index.ts";

/** The backends of a group for which the user names none. */
export interface DefaultBackend {
  readonly backend: string;
  /** Why there is none for these types of device. */
  readonly absent: ReadonlyMap<DeviceType, string>;
}

/** Where the kernel's side of NVIDIA's driver shows: on a PC, in WSL, on Jetson. */
const driverFiles = ["/dev/nvidiactl", "/dev/dxg", "/dev/nvmap"];

/**
 * `cpu:gloo,cuda:nccl` where NCCL and a CUDA device can be used, else `gloo`. Where the kernel has no CUDA driver, only
 * a few files are looked for. c10d: the backend of `init_process_group()` without one.
 */
export async function defaultBackend(
  registry: BackendRegistry,
  limit: SettleLimit,
  ncclOptions?: unknown,
  environment = processEnvironment(),
  files: readonly string[] = driverFiles,
): Promise<DefaultBackend> {
  const gloo = (reason: string): DefaultBackend => ({ backend: "gloo", absent: new Map([["cuda", reason]]) });
  const advice = "`c10d info` says what the nccl backend needs";
  const mayHaveCuda = environmentText("C10D_CUDA_LIBRARY", environment) !== undefined || files.some(existsSync);
  if (!mayHaveCuda) return gloo(`this machine shows no CUDA device (there is no ${files[0]}); ${advice}`);
  const nccl = await registry.probe("nccl", limit, ncclOptions);
  if (nccl.available) return { backend: "cpu:gloo,cuda:nccl", absent: new Map() };
  const reason = /[.!?]$/.test(nccl.reason) ? nccl.reason : `${nccl.reason}.`;
  return gloo(`the nccl backend cannot run here: ${reason} ${nccl.remedy}`);
}
