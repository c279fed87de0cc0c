import { fileURLToPath } from "node:url";
import { Glob } from "bun";
import { includeDirectory } from "bun-c10d/native";

const folder = new URL("./", import.meta.url);
const modifiedAt = (file: string | URL): number => Bun.file(file).lastModified;

/**
 * Compiles a shim unless its library is newer than all sources: several tests use it, and the engine takes long to
 * compile. Paths are relative to this folder.
 */
export async function buildIfStale(library: string, build: string): Promise<void> {
  const made = new URL(library, folder);
  if ((await Bun.file(made).exists()) && newestSource() < modifiedAt(made)) return;
  await import(new URL(build, folder).href);
}

function newestSource(): number {
  const sources = [fileURLToPath(folder), includeDirectory].flatMap((cwd) => [
    ...new Glob("**/{build.ts,*.c,*.cc,*.h}").scanSync({ cwd, absolute: true }),
  ]);
  return Math.max(...sources.map(modifiedAt));
}
