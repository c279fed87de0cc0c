import { dlopen, type FFIFunction, type Library } from "bun:ffi";
import { DistStoreError } from "../errors/index.ts";

/** Those of glibc, musl and macOS. */
const names = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`, "libSystem.B.dylib"];

/**
 * Functions of the C library of this system.
 * @throws DistStoreError with `code` if there is none; `user` names the caller in the message.
 */
export function openCLibrary<F extends Record<string, FFIFunction>>(
  functions: F,
  user: string,
  code: string,
): Library<F>["symbols"] {
  const failures: unknown[] = [];
  for (const name of names) {
    try {
      return dlopen(name, functions).symbols;
    } catch (error) {
      failures.push(error);
    }
  }
  const wanted = Object.keys(functions).join(", ");
  throw new DistStoreError(`${user}: found no C library with ${wanted}, tried ${names.join(", ")}`, {
    code,
    cause: failures[0],
  });
}
