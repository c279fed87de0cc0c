import { chmodSync, linkSync, lstatSync, mkdtempSync, renameSync, rmdirSync, rmSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";

/** How often a path is tried at which others make and leave sockets at the same time. */
const MAX_TRIES = 4;

/**
 * Binds a socket in a folder that only this user can enter, and gives it its name when its mode is 0600: so nobody else
 * can open it, not for a moment. A socket of this user on which nobody listens any more, as a process leaves it that is
 * killed, is replaced; nothing else that exists at the path is replaced or followed.
 *
 * @param bind Binds to a path.
 * @throws Error `EEXIST`, whose message says what is there, and what `bind` throws.
 */
export async function bindUnixSocket<T>(path: string, bind: (path: string) => T): Promise<T> {
  const folder = mkdtempSync(join(dirname(path), ".c10d"));
  const hidden = join(folder, "s");
  try {
    const server = bind(hidden);
    chmodSync(hidden, 0o600);
    for (let tries = 1; !linked(hidden, path, tries === MAX_TRIES); tries++)
      await removeStale(path, join(folder, "old"));
    return server;
  } finally {
    rmSync(hidden, { force: true });
    rmdirSync(folder);
  }
}

function linked(from: string, to: string, isLast: boolean): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (isLast || (error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return false;
  }
}

/**
 * Removes a socket of this user on which nobody listens. Another process may do the same and put its own there, so what
 * was moved aside is looked at again, and put back if it is not what was found.
 */
async function removeStale(path: string, aside: string): Promise<void> {
  const found = await reasonToStay(path);
  if (found !== undefined) throw exists(found);
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const moved = await reasonToStay(aside);
  if (moved === undefined) unlinkSync(aside);
  else {
    renameSync(aside, path);
    throw exists(moved);
  }
}

/** Why what is at a path is not replaced. */
async function reasonToStay(path: string): Promise<string | undefined> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  if (!found.isSocket()) return "it is not a socket";
  if (found.uid !== process.getuid?.()) return `it is a socket of the user with the id ${found.uid}`;
  return (await isServed(path)) ? "another server listens on it" : undefined;
}

async function isServed(path: string): Promise<boolean> {
  try {
    const connected = await Bun.connect({ unix: path, socket: { data() {} } });
    connected.terminate();
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code !== "ECONNREFUSED" && code !== "ENOENT";
  }
}

function exists(why: string): Error {
  return Object.assign(new Error(why), { code: "EEXIST" });
}
