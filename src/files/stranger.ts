import { lstatSync, readlinkSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { explained } from "../errors/index.ts";
import { programFile } from "./program-file.ts";

/** As many symbolic links as the kernel follows. */
const mostLinks = 40;

/**
 * Why another user may have created what `path` leads to, or can replace it: a file, folder or symbolic link on the way
 * that belongs to a user who is neither this one nor root, or that anybody can write to. Undefined if there is none, or
 * if the path does not exist.
 *
 * Folders such as /tmp, in which users can remove only their own files, are safe to pass through, not to end at. The
 * running program is trusted: its owner counts as this user, and the folders above it may be passed.
 */
export function untrustedOwnerAt(path: string): string | undefined {
  return walk(path, (at, found, passing) => {
    return foreignOwner(at, found) ?? (passing && isSticky(found) ? undefined : openness(at, found));
  });
}

/**
 * The same for a folder that the user names as a destination. It may be one such as /tmp, and may be below folders of
 * other users.
 */
export function namedUntrustedOwnerAt(folder: string): string | undefined {
  return walk(folder, (at, found, passing) => {
    const owner = passing && found.isDirectory() ? undefined : foreignOwner(at, found);
    return owner ?? (isSticky(found) ? undefined : openness(at, found));
  });
}

type Judge = (at: string, found: Stats, passing: boolean) => string | undefined;

/** The first objection of `judge` on the way to `path`, followed as by the kernel: `..` leaves a link's target. */
function walk(path: string, judge: Judge): string | undefined {
  const ahead = steps(isAbsolute(path) ? path : `${process.cwd()}/${path}`);
  let at = "/";
  for (let links = 0; ; ) {
    const found = lookAt(at);
    if (found === undefined) return undefined;
    const passing = ahead.length > 0;
    const reason = passing && running().folders.has(at) ? undefined : judge(at, found, passing);
    if (reason !== undefined) return reason;
    if (found.isSymbolicLink()) {
      if (++links > mostLinks) return undefined;
      const target = readlinkSync(at);
      ahead.unshift(...steps(target));
      at = isAbsolute(target) ? "/" : dirname(at);
      continue;
    }
    const next = ahead.shift();
    if (next === undefined) return undefined;
    at = join(at, next);
  }
}

/**
 * Why any user may have put what `path` leads to where it is: a folder on the way, also of a symbolic link, that anybody
 * can write to. For a file that the user names: it, and the folders above, may belong to another user.
 *
 * In folders such as /tmp, files, folders and links of this user and of root are safe.
 */
export function writableByAnyoneAt(path: string): string | undefined {
  return walk(path, (at, found, passing) => {
    const opened = passing ? undefined : openness(at, found);
    const folder = dirname(at);
    if (opened !== undefined || folder === at || (passing && running().folders.has(folder))) return opened;
    const place = lookAt(folder);
    if (place === undefined || (isSticky(place) && isTrusted(found.uid))) return undefined;
    return openness(folder, place);
  });
}

function lookAt(path: string, stat: (path: string) => Stats = lstatSync): Stats | undefined {
  try {
    return stat(path);
  } catch {
    return undefined;
  }
}

function steps(path: string): string[] {
  return path.split("/").filter((step) => step !== "" && step !== ".");
}

/** Names the owner of a file or folder, unless `isOwn` accepts it. */
export function foreignOwner(path: string, { uid }: Stats, isOwn = isTrusted): string | undefined {
  return isOwn(uid) ? undefined : `${path} belongs to another user (uid ${uid})`;
}

/** Reports that anybody can write to a file or folder, if so. The mode of a symbolic link means nothing. */
export function openness(path: string, found: Stats): string | undefined {
  return !found.isSymbolicLink() && isOpen(found) ? openTo(path, found) : undefined;
}

function openTo(path: string, { mode }: Stats): string {
  return `${path} can be changed by anybody (mode ${(mode & 0o7777).toString(8).padStart(4, "0")})`;
}

const isOpen = ({ mode }: Stats): boolean => (mode & 0o002) !== 0;
const isSticky = ({ mode }: Stats): boolean => (mode & 0o1000) !== 0;

/** Whether a user is this one, root, or the owner of the running program. */
export function isTrusted(uid: number): boolean {
  return uid === 0 || uid === process.getuid?.() || running().owners.has(uid);
}

function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch (error) {
    throw explained(`cannot inspect ${file}`, error);
  }
}

interface Running {
  readonly owners: ReadonlySet<number>;
  /** All folders above. */
  readonly folders: ReadonlySet<string>;
}

let known: Running | undefined;

/** The program and this package. A user who can replace one of them can run any code anyway. */
function running(): Running {
  if (known !== undefined) return known;
  const owners = new Set<number>();
  const folders = new Set<string>();
  for (const file of [programFile(), Bun.fileURLToPath(import.meta.url)]) {
    const found = file === undefined ? undefined : lookAt(file, statSync);
    if (file === undefined || found === undefined) continue;
    owners.add(found.uid);
    for (let folder = dirname(realPath(file)); !folders.has(folder); folder = dirname(folder)) folders.add(folder);
  }
  known = { owners, folders };
  return known;
}
