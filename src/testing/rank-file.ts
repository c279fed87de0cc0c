import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Absolute path of a file that is named by a path, seen from the current folder, or by a URL. */
export function pathOfFile(file: string | URL): string {
  return file instanceof URL || file.startsWith("file:") ? fileURLToPath(file) : resolve(file);
}
