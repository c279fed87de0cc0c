import { lstatSync, readlinkSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { explained } from "../errors/index.ts";

/** As many symbolic links as the kernel follows. */
const mostLinks = 40;

/**
 * Why another user may have made what `path` leads to, or can exchange it: a file, folder or symbolic link on the way that
 * belongs to a user who is neither this one nor root, or into which anybody can write. Undefined where there is no such
 * thing, and where nothing is there.
 *
 * Folders such as /tmp, in which each user can remove only what is his own, are safe to pass, not to end at. What runs
 * already is not in question: its owner counts as this user, and the folders above it may be passed.
 */
export function strangerAt(path: string): string | undefined {
  return walk(path, (at, found, passing) => {
    if (!isTrusted(found.uid)) return belongsToAnother(at, found);
    return !found.isSymbolicLink() && isOpen(found) && !(passing && isSticky(found)) ? openTo(at, found) : undefined;
  });
}

/**
 * The same for a folder that the user names to have something put there. It may be one such as /tmp, and below folders of
 * others.
 */
export function namedStrangerAt(folder: string): string | undefined {
  return walk(folder, (at, found, passing) => {
    if (!isTrusted(found.uid) && !(passing && found.isDirectory())) return belongsToAnother(at, found);
    return !found.isSymbolicLink() && isOpen(found) && !isSticky(found) ? openTo(at, found) : undefined;
  });
}

type Judge = (at: string, found: Stats, passing: boolean) => string | undefined;

/** What `judge` says of the first step on the way to `path` that it does not like, symbolic links included. */
function walk(path: string, judge: Judge): string | undefined {
  const ahead = steps(path);
  let at = "/";
  for (let links = 0; ; ) {
    const found = lookAt(at);
    if (found === undefined) return undefined;
    const passing = ahead.length > 0;
    const reason = passing && running().folders.has(at) ? undefined : judge(at, found, passing);
    if (reason !== undefined) return reason;
    if (found.isSymbolicLink()) {
      if (++links > mostLinks) return undefined;
      ahead.unshift(...steps(resolve(dirname(at), readlinkSync(at))));
      at = "/";
      continue;
    }
    const next = ahead.shift();
    if (next === undefined) return undefined;
    at = join(at, next);
  }
}

/**
 * Why anybody can have put a file where it is. For what the user names himself: that it belongs to somebody else is his
 * business then.
 */
export function anybodyAt(path: string): string | undefined {
  const folder = dirname(path);
  const [file, place] = [path, folder].map((each) => lookAt(each, statSync));
  if (file === undefined || place === undefined) return undefined;
  if (isOpen(file)) return openTo(path, file);
  if (!isOpen(place) || (isSticky(place) && isTrusted(file.uid))) return undefined;
  return openTo(folder, place);
}

function lookAt(path: string, stat: (path: string) => Stats = lstatSync): Stats | undefined {
  try {
    return stat(path);
  } catch {
    return undefined;
  }
}

function steps(path: string): string[] {
  return resolve(path).split("/").filter(Boolean);
}

function belongsToAnother(path: string, { uid }: Stats): string {
  return `${path} belongs to another user (uid ${uid})`;
}

function openTo(path: string, { mode }: Stats): string {
  return `${path} can be changed by anybody (mode ${(mode & 0o7777).toString(8).padStart(4, "0")})`;
}

const isOpen = ({ mode }: Stats): boolean => (mode & 0o002) !== 0;
const isSticky = ({ mode }: Stats): boolean => (mode & 0o1000) !== 0;

/** Whether a user is this one, root, or the owner of the program that runs. */
export function isTrusted(uid: number): boolean {
  return uid === 0 || uid === process.getuid?.() || running().owners.has(uid);
}

function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch (error) {
    throw explained(`cannot look at ${file}`, error);
  }
}

interface Running {
  readonly owners: ReadonlySet<number>;
  /** All folders above. */
  readonly folders: ReadonlySet<string>;
}

let known: Running | undefined;

/** The program and this package. Whoever can exchange one of them needs nothing else. */
function running(): Running {
  if (known !== undefined) return known;
  const owners = new Set<number>();
  const folders = new Set<string>();
  for (const file of [Bun.main, fileURLToPath(import.meta.url)]) {
    const found = lookAt(file, statSync);
    if (found === undefined) continue;
    owners.add(found.uid);
    for (let folder = dirname(realPath(file)); !folders.has(folder); folder = dirname(folder)) folders.add(folder);
  }
  known = { owners, folders };
  return known;
}
