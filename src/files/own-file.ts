import { closeSync, constants, openSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;

/**
 * Creates a file that only this user can read. What exists at the path is removed: it is not written to, and a symbolic
 * link is not followed. The folder must be one of {@link createFoldersIn}.
 */
export async function createOwnFile(path: string): Promise<FileHandle> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
}

/**
 * Writes a file that only this user can read, whole or not at all. What exists at the path is replaced: it is not
 * written to, and a symbolic link is not followed.
 * @throws Error when the folder does not exist or cannot be written to.
 */
export function replaceOwnFile(path: string, data: string | Uint8Array): void {
  // A process that is killed leaves it behind, among files that others find by a part of their names.
  const temporary = join(dirname(path), temporaryName());
  const descriptor = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    writeFileSync(descriptor, data);
    renameSync(temporary, path);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  } finally {
    closeSync(descriptor);
  }
}

const temporaryName = (): string => `.${crypto.randomUUID()}.tmp`;

/** Whether a file can be what {@link replaceOwnFile} has left behind in a process that was killed. */
export function isTemporaryName(name: string): boolean {
  return /^\.[\da-f-]{36}\.tmp$/.test(name);
}
