import { constants } from "node:fs";
import { type FileHandle, open, unlink } from "node:fs/promises";

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
