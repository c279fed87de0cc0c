import { FFIType } from "bun:ffi";
import { DistStoreError } from "../../errors/index.ts";
import { openCLibrary } from "../c-library.ts";

const [shared, exclusive, nonBlocking, unlock] = [1, 2, 4, 8] as const;

const symbols = { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } } as const;

let flock: ((fd: number, operation: number) => number) | undefined;

/**
 * Takes the lock of an open file if it is free, and returns whether it did. It never blocks.
 * @throws DistStoreError `LOCKS_UNSUPPORTED`
 */
export function tryLock(fd: number, kind: "shared" | "exclusive", path: string): boolean {
  flock ??= openCLibrary(symbols, "FileStore", "LOCKS_UNSUPPORTED").flock;
  if (flock(fd, (kind === "shared" ? shared : exclusive) | nonBlocking) === 0) return true;
  // errno is not reliable here. But unlocking without a lock works wherever locks are supported, so this distinguishes
  // a busy lock from an unsupported one.
  if (flock(fd, unlock) === 0) return false;
  throw new DistStoreError(
    `FileStore: the file system of ${path} has no flock(2). Put the file on one that has (local disks, NFSv4), or use a TCPStore.`,
    { code: "LOCKS_UNSUPPORTED" },
  );
}

/** Releases the lock. */
export function releaseLock(fd: number): void {
  flock?.(fd, unlock);
}
