import { lstatSync, mkdirSync, type Stats } from "node:fs";
import { isAbsolute, join } from "node:path";
import { foreignOwner, isTrusted, namedUntrustedOwnerAt, writableByAnyoneAt } from "./stranger.ts";

/** A folder that can be used, or why not, for a message. */
export type FolderFinding =
  | { readonly path: string; readonly fault?: undefined }
  | { readonly path?: undefined; readonly fault: string };

/** The folder, if this user alone can enter it: no other user can have put anything there. */
export function ownFolder(path: string): FolderFinding {
  if (!isAbsolute(path)) return { fault: `${path || "an empty path"} is not an absolute path` };
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return { fault: `${path} does not exist` };
  const fault = foreignness(path, found, (uid) => uid === process.getuid?.()) ?? writableByAnyoneAt(path);
  if (fault !== undefined) return { fault };
  if ((found.mode & 0o077) === 0) return { path };
  return { fault: `other users can enter ${path} (mode ${(found.mode & 0o777).toString(8).padStart(4, "0")})` };
}

/** The same; creates the folder if it is missing. */
export function createOwnFolder(path: string): FolderFinding {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch {
    // It exists, or cannot be created: `ownFolder` checks which.
  }
  return ownFolder(path);
}

/**
 * Creates the nested folders `names` in one that the user names. Those that are missing are for this user alone.
 * @throws Error if one of them may be another user's, or anybody can write to it.
 */
export function createFoldersIn(base: string, ...names: readonly string[]): string {
  requireOwnBase(base);
  mkdirSync(base, { recursive: true, mode: 0o700 });
  requireOwnBase(base);
  return names.reduce((parent, name) => {
    const path = join(parent, name);
    try {
      mkdirSync(path, { mode: 0o700 });
    } catch (error) {
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (found === undefined) throw error;
      const fault = foreignness(path, found, isTrusted) ?? writableByAnyoneAt(path);
      if (fault !== undefined) throw new Error(`${fault}, and existed before. Use another name or another folder`);
    }
    return path;
  }, base);
}

function requireOwnBase(base: string): void {
  const stranger = namedUntrustedOwnerAt(base);
  if (stranger !== undefined) throw new Error(`${stranger}. Name a folder of your own`);
}

function foreignness(path: string, found: Stats, isOwn: (uid: number) => boolean): string | undefined {
  const owner = foreignOwner(path, found, isOwn);
  if (owner !== undefined) return owner;
  if (found.isSymbolicLink()) return `${path} is a symbolic link`;
  return found.isDirectory() ? undefined : `${path} is not a folder`;
}
