import { lstatSync, readlinkSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { environmentText } from "../environment/index.ts";
import { ownFolder } from "../files/index.ts";

const PREFIX = "socket-";

/** Which socket file it is, in letters of a file name: numbers of files that are gone are used again, times are not. */
export function socketIdentity(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isSocket() === true ? `${found.dev}-${found.ino}-${found.birthtimeMs}` : undefined;
}

/**
 * Tells the launcher of this rank, if it has one, of a socket file that the rank makes: a rank that a signal ends cannot
 * remove it, so the launcher does when the job has ended.
 * @returns Path of what it has put into the launcher's folder; undefined if it has put nothing there.
 */
export function announceSocket(path: string, identity: string): string | undefined {
  const given = environmentText("C10D_STATUS_DIR");
  const folder = given === undefined ? undefined : ownFolder(given).path;
  if (folder === undefined) return undefined;
  const link = join(folder, `${PREFIX}${identity}`);
  try {
    symlinkSync(path, link);
    return link;
  } catch {
    // Without it, the next server on the path replaces the file.
    return undefined;
  }
}

export function isAnnouncement(name: string): boolean {
  return name.startsWith(PREFIX);
}

/** Removes an announced socket file, if it is still the one that the rank made, and its announcement. */
export function removeLeftSocket(folder: string, name: string): void {
  const link = join(folder, name);
  const path = readlinkSync(link);
  unlinkSync(link);
  if (socketIdentity(path) === name.slice(PREFIX.length)) unlinkSync(path);
}
