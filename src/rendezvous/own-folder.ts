import { lstatSync } from "node:fs";
import { isAbsolute } from "node:path";

/** The path, if it is that of a folder that this user alone can enter; no other user can have put anything there. */
export function ownFolder(path: string | undefined): string | undefined {
  if (!path || !isAbsolute(path)) return undefined;
  const found = lstatSync(path, { throwIfNoEntry: false });
  const own = found?.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o077) === 0;
  return own ? path : undefined;
}
