import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, InvalidArgumentError } from "../../errors/index.ts";

/**
 * Absolute path of a file that is named by a path, relative to the current folder, or by a URL.
 *
 * @param caller Name of the function that was given the file, for its error.
 */
export function pathOfFile(caller: string, file: string | URL): string {
  if (file instanceof URL) return fileURLToPath(file);
  if (typeof file === "string") return file.startsWith("file:") ? fileURLToPath(file) : resolve(file);
  const advice = typeof file === "function" ? "; localRanks() runs a function as ranks" : "";
  throw new InvalidArgumentError(
    `${caller}: file must be the path or URL of a file that exports the ranks' function by default, got ${
      typeof file === "function" ? "a function" : describe(file)
    }${advice}`,
    { argument: "file" },
  );
}
