import { type Pointer, ptr } from "bun:ffi";
import { readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import type { ShimSymbols } from "./shim-symbols.ts";

/** What a shim exports as a Node-API module: native/worker_end.h. */
interface WorkerModule {
  create(config: number): number;
  close(group: number, timeoutMs: number): number;
  readonly address: number;
}

/** Option of every group in a Worker: the memory of its tensors is freed before the process ends. */
export const WORKER_OPTIONS: Readonly<Record<string, string>> = isMainThread ? {} : { thread: "worker" };

/** Longest native wait: a Worker can be terminated only between two of them. */
export const WAIT_SLICE_MS: number = isMainThread ? Number.POSITIVE_INFINITY : 100;

/**
 * The symbols of a shim for this thread to use. In a Worker, native threads must stop using its memory before it is
 * freed: groups are created and closed through the shim's module, whose clean-up hook tracks them. The main thread ends
 * with the process and needs no guard. Undefined if the shim has no such module.
 */
export function guardWorker(path: string, symbols: ShimSymbols, closeAddress: number): ShimSymbols | undefined {
  if (isMainThread) return symbols;
  const module = { exports: {} as Partial<WorkerModule> };
  try {
    process.dlopen(module, fileAt(closeAddress) ?? path);
  } catch {
    return undefined;
  }
  const { create, close, address } = module.exports;
  // A second copy of the library would have its own groups and its own MPI.
  if (create === undefined || close === undefined || address !== closeAddress) return undefined;
  return {
    ...symbols,
    c10d_create: (config) => (create(ptr(config as ArrayBuffer)) || null) as Pointer | null,
    c10d_close: close as ShimSymbols["c10d_close"],
  };
}

/**
 * The file that the code at this address was loaded from, according to the system. A program that
 * `bun build --compile` made embeds its libraries and unpacks them once for each way of loading.
 */
function fileAt(address: number): string | undefined {
  try {
    for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
      const [, from = "", to = "", file] = /^([0-9a-f]+)-([0-9a-f]+) .{4} \S+ \S+ \S+ +(\/.*)$/.exec(line) ?? [];
      if (file !== undefined && Number.parseInt(from, 16) <= address && address < Number.parseInt(to, 16)) return file;
    }
  } catch {
    // Not Linux.
  }
  return undefined;
}
