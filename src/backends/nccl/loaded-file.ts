import { readFileSync } from "node:fs";
import { basename } from "node:path";

/**
 * Path of a shared library that this process has loaded, also in another thread, by the name that its file begins with,
 * such as `libnccl.so.2`; undefined if it has none.
 */
export function loadedFile(name: string, maps = readFileSync("/proc/self/maps", "utf8")): string | undefined {
  for (const line of maps.split("\n")) {
    const path = line.slice(line.indexOf("/"));
    if (line.includes("/") && isVersionOf(basename(path), name)) return path.replace(/ \(deleted\)$/, "");
  }
  return undefined;
}

/** `libnccl.so.2` itself or `libnccl.so.2.30.7`. */
function isVersionOf(file: string, name: string): boolean {
  const plain = file.replace(/ \(deleted\)$/, "");
  return plain === name || plain.startsWith(`${name}.`);
}
