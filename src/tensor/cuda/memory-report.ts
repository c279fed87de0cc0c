import { isMainThread } from "node:worker_threads";
import { sweepCopies } from "./copies.ts";
import { allMemories, type MemoryStats, memoryOfDevice } from "./device-memory.ts";
import { type CudaDeviceLike, ordinalOf } from "./device-ordinal.ts";
import { pinnedBytes, sweepPinned, trimPinned } from "./pinned-memory.ts";
import { Storage } from "./storage.ts";

/** Memory of this thread on a device, and page-locked memory of the host. */
export interface CudaMemoryStats extends MemoryStats {
  /** Bytes of page-locked host memory, in use or kept for later copies. */
  readonly pinnedBytes: number;
}

/** How much memory this thread has on a device. c10d: `torch.cuda.memory_stats`. */
export function memoryStats(device?: CudaDeviceLike): CudaMemoryStats {
  const index = ordinalOf("cuda.memoryStats", device);
  sweepCopies();
  sweepPinned();
  return { ...memoryOfDevice(index).stats(), pinnedBytes: pinnedBytes() };
}

/**
 * Gives memory that is kept for later tensors back to the driver, unless work on the device still uses it; returns how
 * many bytes of devices. The driver may wait for the device meanwhile. c10d: `torch.cuda.empty_cache`.
 */
export function emptyCache(): number {
  sweepCopies();
  trimPinned();
  return allMemories().reduce((sum, memory) => sum + memory.trim(), 0);
}

/** How long a Worker waits at its end for work on devices that uses its memory. */
const EXIT_LIMIT_MS = 100;

/**
 * The driver frees all when the process ends. A Worker's memory would be lost until then: what no op uses is freed when
 * it exits, which a Worker that is terminated does not do.
 */
if (!isMainThread) {
  process.on("exit", () => {
    Storage.freeAll();
    const deadline = performance.now() + EXIT_LIMIT_MS;
    const isPending = () => allMemories().some((memory) => memory.stats().pendingFrees > 0);
    while (isPending() && performance.now() < deadline) Bun.sleepSync(1);
    emptyCache();
  });
}
